// What the app's identity may do on one vault: read secrets, and give one role to accounts.
// Plain resources: the scope is a vault that may exist already, in a group of its own, and the
// condition on the assignment is the point of it.

@description('Name of the vault.')
param vaultName string

@description('Object id of the app\'s identity.')
param principalId string

@description('Whether the vault uses access policies instead of Azure RBAC.')
param usesAccessPolicies bool

@description('The role that the app may give.')
@allowed([
  'Key Vault Secrets Officer'
  'Key Vault Secrets User'
])
param grantedRole string

@description('Whether the app may write secrets (ROTATION=mint).')
param mayWriteSecrets bool

@description('How the app may give it.')
@allowed([
  'conditioned'
  'dataAccessAdministrator'
  'none'
])
param roleAssignmentRight string

@description('Part of the custom role\'s name, which is unique in a tenant.')
param environmentName string

var secretsOfficer = 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'
var rbacAdministrator = 'f58310d9-a9f6-439a-9e8d-f62e7b41a168'
var dataAccessAdministrator = '8b54135c-b56d-4d72-a534-26097cfdc8d8'
var grantedRoleId = grantedRole == 'Key Vault Secrets User' ? secretsUser : secretsOfficer
var assigningRoleId = roleAssignmentRight == 'conditioned' ? rbacAdministrator : dataAccessAdministrator
// Two clauses, for giving and for taking away, only to service principals. Given is only that role;
// taken back is also the other one, which earlier settings may have asked for.
var conditionTemplate = '''
(
 (
  !(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})
 )
 OR
 (
  @Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {ROLE}
  AND
  @Request[Microsoft.Authorization/roleAssignments:PrincipalType] ForAnyOfAnyValues:StringEqualsIgnoreCase {'ServicePrincipal'}
 )
)
AND
(
 (
  !(ActionMatches{'Microsoft.Authorization/roleAssignments/delete'})
 )
 OR
 (
  @Resource[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {EITHER}
  AND
  @Resource[Microsoft.Authorization/roleAssignments:PrincipalType] ForAnyOfAnyValues:StringEqualsIgnoreCase {'ServicePrincipal'}
 )
)
'''
var assignCondition = replace(
  replace(conditionTemplate, 'ROLE}', '${grantedRoleId}}'),
  'EITHER}',
  '${secretsOfficer}, ${secretsUser}}'
)
var ownRoleId = mayWriteSecrets ? secretsOfficer : secretsUser
var readOnly = [
  'get'
]
var readAndWrite = [
  'get'
  'set'
]
var mayAssign = !usesAccessPolicies && roleAssignmentRight != 'none'
var mayAddPolicies = usesAccessPolicies && roleAssignmentRight != 'none'
var policyWriterId = guid(resourceGroup().id, vaultName, environmentName, 'policy writer')

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' existing = {
  name: vaultName
}

// Secrets User reads the newest version and the version in use; Secrets Officer also stores a new
// one. In a policy-mode vault a role would be idle.
resource readSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!usesAccessPolicies) {
  name: guid(vault.id, principalId, ownRoleId)
  scope: vault
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', ownRoleId)
    description: 'Reads the W&B key to prove it and to send metrics with it (and stores new ones, if told to).'
  }
}

resource assignRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (mayAssign) {
  name: guid(vault.id, principalId, assigningRoleId)
  scope: vault
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', assigningRoleId)
    condition: roleAssignmentRight == 'conditioned' ? assignCondition : null
    conditionVersion: roleAssignmentRight == 'conditioned' ? '2.0' : null
    description: 'Gives the identities of Azure OpenAI accounts their role on this vault.'
  }
}

resource readByPolicy 'Microsoft.KeyVault/vaults/accessPolicies@2024-11-01' = if (usesAccessPolicies) {
  parent: vault
  name: 'add'
  properties: {
    accessPolicies: [
      {
        tenantId: tenant().tenantId
        objectId: principalId
        permissions: {
          secrets: mayWriteSecrets ? readAndWrite : readOnly
        }
      }
    ]
  }
}

// Whoever may add policies could give itself any data right on this vault. Only where the vault
// uses policies anyway; docs/security.md says what that means and how to do without.
resource policyWriter 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (mayAddPolicies) {
  name: policyWriterId
  properties: {
    roleName: 'WandB relay - add access policies (${environmentName}, ${vaultName})'
    description: 'Adds access policies for the identities of Azure OpenAI accounts.'
    type: 'CustomRole'
    assignableScopes: [
      resourceGroup().id
    ]
    permissions: [
      {
        actions: [
          'Microsoft.KeyVault/vaults/read'
          'Microsoft.KeyVault/vaults/accessPolicies/write'
        ]
      }
    ]
  }
}

resource addPolicies 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (mayAddPolicies) {
  name: guid(vault.id, principalId, policyWriterId)
  scope: vault
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: policyWriter.id
    description: 'Adds access policies for the identities of Azure OpenAI accounts.'
  }
}

// What the settings give: infra/hooks/ takes back what an earlier deployment gave beyond it.
output rights object = {
  vaultId: vault.id
  assignments: concat(usesAccessPolicies ? [] : [
    readSecrets!.id
  ], mayAssign ? [
    assignRoles!.id
  ] : [], mayAddPolicies ? [
    addPolicies!.id
  ] : [])
  roles: mayAddPolicies ? [
    policyWriter!.id
  ] : []
  secretPermissions: usesAccessPolicies ? (mayWriteSecrets ? readAndWrite : readOnly) : []
}
