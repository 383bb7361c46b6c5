"""Role ids and the condition; test_previews.py holds who gets which right."""

import re
from pathlib import Path

from finetune_wandb.model.accounts.vault import ROLE_IDS
from tests.infra.bicep import FILES, ROOT, BicepFile, read, strings, text

ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "d5a91429-5739-47e2-a06b-3470a27159e7": "EventGrid Data Sender",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "f58310d9-a9f6-439a-9e8d-f62e7b41a168": "Role Based Access Control Administrator",
    "8b54135c-b56d-4d72-a534-26097cfdc8d8": "Key Vault Data Access Administrator",
    "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd": "Cognitive Services OpenAI User",
    "a001fd3d-188f-4b5d-821b-7da978bf7442": "Cognitive Services OpenAI Contributor",
}
"""Source: Microsoft's list of built-in roles (facts of 2026-04, checked 2026-11-24)."""

GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)


def _guids(path: Path) -> set[str]:
    return set(GUID.findall(path.read_text()))


def test_every_role_id_is_one_of_the_table() -> None:
    used = {guid for path in FILES for guid in _guids(path)}
    assert used == set(ROLES)


def test_table_of_rights_has_a_row_for_each_role_that_is_given() -> None:
    table = (ROOT / "docs" / "security.md").read_text().partition("| identity | right |")[2]
    rows = [line.split("|")[2].strip() for line in table.partition("\n\n")[0].splitlines()[2:]]
    built_in = [right for right in rows if not right.startswith(("custom role", "the same"))]
    assert sorted(re.split(r",| \(| \*\*", right)[0] for right in built_in) == sorted(
        ROLES.values()
    )


def test_granted_role_ids_are_those_the_app_assigns() -> None:
    access = read("modules/vault-access.bicep")
    officer = strings(access.variables["secretsOfficer"])[0]
    user = strings(access.variables["secretsUser"])[0]
    assert ROLE_IDS["Key Vault Secrets Officer"] == officer
    assert ROLE_IDS["Key Vault Secrets User"] == user
    chosen = text(access.variables["grantedRoleId"])
    assert chosen == "grantedRole == 'Key Vault Secrets User' ? secretsUser : secretsOfficer"


EITHER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7, 4633458b-17de-408a-b874-0445c86b69e6"


def _condition(role: str) -> str:
    access = read("modules/vault-access.bicep")
    template = text(access.variables["conditionTemplate"]).strip("'\n")
    assert text(access.variables["assignCondition"]).split() == [
        "replace(",
        *["replace(conditionTemplate,", "'ROLE}',", "'${grantedRoleId}}'),"],
        *["'EITHER}',", "'${secretsOfficer},", "${secretsUser}}'", ")"],
    ]
    return template.replace("ROLE}", role + "}").replace("EITHER}", EITHER + "}")


def test_condition_lets_one_role_be_given_and_two_be_taken_from_service_principals_only() -> None:
    role = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
    condition = re.sub(r"\s+", " ", _condition(role))
    clause = (
        "( ( !(ActionMatches{{'Microsoft.Authorization/roleAssignments/{verb}'}}) ) OR ( "
        "@{side}[Microsoft.Authorization/roleAssignments:RoleDefinitionId]"
        " ForAnyOfAnyValues:GuidEquals {{{role}}} AND "
        "@{side}[Microsoft.Authorization/roleAssignments:PrincipalType]"
        " ForAnyOfAnyValues:StringEqualsIgnoreCase {{'ServicePrincipal'}} ) )"
    )
    assert condition.strip() == " AND ".join(
        clause.format(verb=verb, side=side, role=roles)
        for verb, side, roles in (("write", "Request", role), ("delete", "Resource", EITHER))
    )


def test_principal_type_is_given_when_a_role_is_assigned() -> None:
    # Without it, Azure looks a new identity up and often does not find it yet.
    for file in map(BicepFile, FILES):
        source = file.source.decode()
        # `principalId: principalId` also hands the id on to a module, which has no such line.
        assigned = source.count("roleDefinitionId: ") + source.count("roleDefinitionIdOrName: ")
        assert source.count("principalType: 'ServicePrincipal'") == assigned, file.path.name


def test_no_key_opens_storage_topic_or_telemetry() -> None:
    assert (
        read("modules/storage.bicep").modules["account"].params["allowSharedKeyAccess"] == "false"
    )
    assert read("modules/notices.bicep").modules["topic"].params["disableLocalAuth"] == "true"
    assert (
        read("modules/monitoring.bicep").modules["component"].params["disableLocalAuth"] == "true"
    )


def test_new_vault_uses_rbac_and_cannot_be_purged() -> None:
    params = read("modules/vault.bicep").modules["vault"].params
    assert params["enableRbacAuthorization"] == "true"
    assert params["enablePurgeProtection"] == "true"
