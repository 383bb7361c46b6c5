"""The hooks' surroundings: a sandbox that plays Resource Manager, and an azd that gives tokens."""

import json
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.infra.bicep import INFRA, ROOT
from tests.infra.previews import LOCATION, NAME, SUBSCRIPTION, Preview

_SIGNED_OUT = {"error": "fetching token: not logged in, run `azd auth login` to login"}
_PROVIDERS = (
    "Microsoft.EventGrid/systemTopics",
    "Microsoft.Insights/",
    "Microsoft.KeyVault/vaults",
    "Microsoft.ManagedIdentity/",
    "Microsoft.Web/sites",
)


class Azure:
    """One azd environment against one sandbox; `environ` is what azd would hand to a hook."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self.sign_in()
        self.environ = {
            "PATH": f"{folder}:/usr/bin:/bin",
            "AZURE_RESOURCE_MANAGER_URL": url,
            "AZURE_ENV_NAME": NAME,
            "AZURE_LOCATION": LOCATION,
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION.rpartition("/")[2],
            "RELAY_POLL_SECONDS": "0",
        }

    def sign_in(self, signed_in: bool = True) -> None:
        """Put an azd on the PATH that gives a token, or says that you must sign in."""
        token = {"token": "sandbox", "expiresOn": "2099-01-01T00:00:00Z"}
        said = f"echo '{json.dumps(token)}'"
        if not signed_in:
            said = f"echo '{json.dumps(_SIGNED_OUT)}' >&2; exit 1"
        azd = self._folder / "azd"
        azd.write_text(f'#!/bin/sh\n[ "$1" = env ] && {{ echo "{{}}"; exit; }}\n{said}\n')
        azd.chmod(azd.stat().st_mode | stat.S_IEXEC)

    def run(
        self, hook: str, stdin: int = subprocess.DEVNULL, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a hook as azd does: by its path, in its folder, with the environment's values."""
        return subprocess.run(
            [sys.executable, str(INFRA / "hooks" / f"{hook}.py")],
            cwd=INFRA / "hooks",
            env=self.environ | environ,
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def preflight(self, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "infra.commands.preflight"],
            cwd=ROOT,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and body of one request."""
        data = None if body is None else json.dumps(body).encode()
        url = self._url + path.replace(" ", "%20").replace("'", "%27")
        request = Request(url, data, {"Authorization": "Bearer x"}, method=method)
        try:
            with urlopen(request, timeout=20) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text else None

    def put(self, path: str, **body: Any) -> None:
        status, said = self.ask("PUT", path, body)
        assert status < 300, (path, status, said)

    def fault(
        self, method: str, path_contains: str, action: Mapping[str, Any], **more: Any
    ) -> None:
        body = {"service": "arm", "method": method, "path_contains": path_contains}
        status, said = self.ask("POST", "/_sandbox/faults", body | {"action": action} | more)
        assert status == 200, said

    def written(self) -> list[tuple[str, str]]:
        """Return method and path of each request that could have changed something."""
        _, found = self.ask("GET", "/_sandbox/requests")
        return [
            (one["method"], one["path"])
            for one in found
            for _ in range(one["count"])
            if one["method"] not in ("GET", "POST")
        ]

    def forget_requests(self) -> None:
        self.ask("DELETE", "/_sandbox/requests")

    def group(self, group: str, **tags: str) -> None:
        self.put(group, location=LOCATION, tags=tags)

    def vault(self, vault: str, rbac: bool, **properties: Any) -> None:
        self.put(
            vault,
            location=LOCATION,
            properties={"tenantId": "t", "sku": {"family": "A", "name": "standard"}}
            | {"enableRbacAuthorization": rbac}
            | properties,
        )

    def deploy(self, preview: Preview) -> None:
        """Make in the sandbox what the preview predicts, and hand its outputs to the hooks."""
        outputs = preview.outputs
        self.environ |= {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in outputs.items()
        }
        vaults = [right["vaultId"] for right in outputs["VAULT_RIGHTS"]]
        subscriptions = [
            "/".join(right["assignments"][0].split("/")[:3])
            for right in outputs["SUBSCRIPTION_RIGHTS"]
        ]
        sources = dict(zip(outputs["VAULT_TOPIC_IDS"].split(), vaults, strict=True))
        sources |= dict(zip(outputs["ACCOUNT_TOPIC_IDS"].split(), subscriptions, strict=True))
        for one in sorted(preview.resources, key=_order):
            path, kind, properties = one["id"], one["type"], one.get("properties", {})
            tags = one.get("tags") or {"azd-env-name": NAME}
            if kind.startswith("Microsoft.Authorization/"):
                if "/containers/" not in path:
                    self.put(path, properties=properties | _role(properties))
            elif kind == "Microsoft.Resources/resourceGroups":
                self.put(path, location=LOCATION, tags=tags)
            elif kind.endswith("/accessPolicies"):
                self.put(path, properties=properties)
            elif kind.startswith(_PROVIDERS) and kind.count("/") == 1:
                if kind.endswith("systemTopics"):
                    in_vault = sources[path] in vaults
                    properties = {
                        "source": sources[path],
                        "topicType": "Microsoft.KeyVault.vaults"
                        if in_vault
                        else "Microsoft.Resources.Subscriptions",
                    }
                if kind.endswith("/vaults"):
                    self.vault(path, rbac=True)
                elif not kind.endswith("/components"):
                    self.put(path, location=LOCATION, tags=tags, properties=properties)


def _role(properties: dict[str, Any]) -> dict[str, str]:
    """Return the full id of an assignment's role, which modules may name by its GUID alone."""
    role = properties.get("roleDefinitionId", "/")
    kind = "/providers/Microsoft.Authorization/roleDefinitions"
    return {} if "/" in role else {"roleDefinitionId": f"{kind}/{role}"}


def _order(resource: dict[str, Any]) -> int:
    kinds = ("resourceGroups", "vaults", "roleDefinitions")
    kind = resource["type"].rpartition("/")[2]
    return kinds.index(kind) if kind in kinds else len(kinds)
