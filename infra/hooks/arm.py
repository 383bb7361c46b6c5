"""Azure Resource Manager, asked as the person (or pipeline) that is signed in to azd.

Reads and writes by path, with the API version of the resource type. Knows no resource's meaning.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from azure.core import PipelineClient
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy
from azure.core.rest import HttpRequest, HttpResponse
from azure.identity import AzureDeveloperCliCredential

Json = dict[str, Any]

_PUBLIC: Final = "https://management.azure.com"
_VERSIONS: Final = {
    "": "2022-12-01",
    "resourcegroups": "2024-03-01",
    "resources": "2024-03-01",
    "microsoft.authorization/permissions": "2022-04-01",
    "microsoft.authorization/roleassignments": "2022-04-01",
    "microsoft.authorization/roleassignmentsusagemetrics": "2019-08-01-preview",
    "microsoft.authorization/roledefinitions": "2022-04-01",
    "microsoft.eventgrid/systemtopics": "2025-02-15",
    "microsoft.insights/actiongroups": "2023-01-01",
    "microsoft.insights/metricalerts": "2018-03-01",
    "microsoft.insights/scheduledqueryrules": "2023-12-01",
    "microsoft.keyvault/checknameavailability": "2024-11-01",
    "microsoft.keyvault/deletedvaults": "2024-11-01",
    "microsoft.keyvault/vaults": "2024-11-01",
    "microsoft.managedidentity/userassignedidentities": "2024-11-30",
    "microsoft.resources/deployments": "2024-07-01",
    "microsoft.storage/checknameavailability": "2025-06-01",
    "microsoft.web/checknameavailability": "2024-11-01",
    "microsoft.web/georegions": "2024-11-01",
    "microsoft.web/locations": "2024-11-01",
    "microsoft.web/sites": "2025-03-01",
}
"""API version by resource type; below a subscription, by what follows it."""

_REMEDIES: Final = {
    401: "azd auth login --tenant-id TENANT, with the tenant of the subscription",
    403: "docs/security.md, 'The person who deploys', has the rights that are needed",
}


class Stop(Exception):
    """The hook cannot go on: `cause` is what is wrong, `remedy` what a person can do."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}\n  remedy: {remedy}")


class ArmError(Exception):
    """Azure's refusal, with its HTTP status and error code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code} ({status}): {message}")
        self.status = status
        self.code = code


class Arm:
    """`environ` may name the tenant (AZURE_TENANT_ID) and another cloud's Resource Manager."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._base = environ.get("AZURE_RESOURCE_MANAGER_URL", _PUBLIC).rstrip("/")
        self._tenant = environ.get("AZURE_TENANT_ID", "")
        credential = AzureDeveloperCliCredential(tenant_id=self._tenant, process_timeout=60)
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            self._base,
            policies=[
                RetryPolicy(retry_total=3),
                BearerTokenCredentialPolicy(credential, f"{self._base}/.default"),
            ],
        )

    def get(self, path: str) -> Json:
        """Return a resource. Raises ArmError."""
        return self._call("GET", path)

    def find(self, path: str) -> Json | None:
        """Return a resource, None if it does not exist. Raises ArmError."""
        try:
            return self.get(path)
        except ArmError as error:
            if error.status == 404 and error.code != "SubscriptionNotFound":
                return None
            raise

    def put(self, path: str, body: Json) -> Json:
        """Create or change a resource; a long operation may still run. Raises ArmError."""
        return self._call("PUT", path, body)

    def post(self, path: str, body: Json) -> Json:
        """Ask for an action and wait for its result. Raises ArmError."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> None:
        """Delete a resource; one that is gone already is fine. Raises ArmError."""
        try:
            self._call("DELETE", path)
        except ArmError as error:
            if error.status != 404:
                raise

    def each(self, path: str) -> Iterator[Json]:
        """Yield the items of a list, page by page. Raises ArmError."""
        link: str | None = path
        while link:
            page = self._call("GET", link)
            yield from page.get("value", ())
            parts = urlsplit(page.get("nextLink") or "")
            link = f"{parts.path}?{parts.query}" if parts.path else None

    def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        query = urlsplit(path).query
        version = "" if "api-version=" in query else f"api-version={_version(path)}"
        joint = "" if not version else "&" if query else "?"
        request = HttpRequest(method, f"{self._base}{path}{joint}{version}", json=body)
        try:
            answer = self._send(request)
            # The caller of a write reads the resource again; an action has only its result.
            while method == "POST" and answer.status_code == 202:
                time.sleep(float(answer.headers.get("Retry-After", "5")))
                parts = urlsplit(answer.headers["Location"])
                answer = self._send(HttpRequest("GET", f"{self._base}{parts.path}?{parts.query}"))
            content = answer.json() if answer.content else {}
        except ClientAuthenticationError as error:
            tenant = f" --tenant-id {self._tenant}" if self._tenant else ""
            raise Stop(f"not signed in: {error.message}", f"azd auth login{tenant}") from error
        except AzureError as error:
            raise Stop(
                f"{self._base} cannot be reached: {error.message}", "check network and proxy"
            ) from error
        except ValueError:
            content = {}
        if answer.status_code < 400:
            return content if isinstance(content, dict) else {"value": content}
        said = content.get("error") if isinstance(content, dict) else None
        said = said if isinstance(said, dict) else {}
        code, message = said.get("code", "NoCode"), said.get("message", "")
        raise ArmError(answer.status_code, code, message)

    def _send(self, request: HttpRequest) -> HttpResponse:
        return self._client.send_request(request, enforce_https=self._base.startswith("https:"))


def _version(path: str) -> str:
    parts = urlsplit(path).path.lower().strip("/").split("/")
    if "providers" in parts:
        at = len(parts) - 1 - parts[::-1].index("providers")
        return _VERSIONS["/".join(parts[at + 1 : at + 3])]
    return _VERSIONS[parts[2] if len(parts) > 2 else ""]


def run(main: Callable[[], None]) -> None:
    """Run a hook; end with 1 and the cause where it cannot do its work."""
    try:
        main()
    except Stop as stop:
        print(f"ERROR: {stop}", file=sys.stderr)
        sys.exit(1)
    except ArmError as error:
        again = "run the hook again; docs/troubleshooting.md names the usual causes"
        print(f"ERROR: {Stop(str(error), _REMEDIES.get(error.status, again))}", file=sys.stderr)
        sys.exit(1)
