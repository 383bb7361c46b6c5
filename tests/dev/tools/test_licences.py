"""The licence list: what is fine, what is not, and that nothing of the runtime is left out."""

import pytest

from dev.tools.licences import is_fine, licence_of, main, required


@pytest.mark.parametrize(
    "licence",
    [
        *("MIT", "Apache-2.0 OR BSD-3-Clause", "GPL-3.0 OR MIT", "MPL-2.0 AND (Apache-2.0 OR MIT)"),
        "Apache-2.0 AND MIT",
    ],
)
def test_licence_is_fine_when_one_way_to_read_it_binds_nobody(licence: str) -> None:
    assert is_fine(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "GPL-3.0-only",
        "AGPL-3.0",
        "MIT AND GPL-2.0-only",
        "GPL-3.0 AND (MIT OR ISC)",
        "none stated",
        "",
        "Proprietary",
    ],
)
def test_licence_is_not_fine_when_it_binds_or_is_not_known(licence: str) -> None:
    assert not is_fine(licence)


def test_what_a_package_requires_is_listed_when_it_is_installed() -> None:
    found = required(["azure-identity==1.27.0"])
    assert {"azure-identity", "azure-core", "msal", "cryptography"} <= set(found)
    assert licence_of("azure-core") == "MIT"


def test_every_runtime_package_is_fine_when_the_app_is_as_it_is() -> None:
    assert main([]) == 0
