// One subscription whose accounts are looked after: the app's rights in it, and its events.
targetScope = 'subscription'

@description('Name of the azd environment.')
param environmentName string

@description('Token that makes names unique.')
param token string

@description('Region of the resource group, if one is made.')
param location string

@description('Tags.')
param tags object

@description('Resource group of the system topic; made in this subscription where it is missing.')
param groupName string

@description('Resource id of the system topic of this subscription.')
param topicId string

@description('Whether that topic is to be made.')
param topicIsNew bool

@description('Object id of the app\'s identity.')
param principalId string

@description('Whether the app may change accounts.')
param mayWrite bool

@description('Whether the app may cancel jobs (ON_WANDB_STOP=cancel).')
param mayCancelJobs bool

@description('Action group of the topic\'s alert; empty for none.')
param actionGroupId string

// Cognitive Services OpenAI User: reads jobs, events, checkpoints and result files.
var openAiUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'
// Cognitive Services OpenAI Contributor: that, and cancels jobs.
var openAiContributor = 'a001fd3d-188f-4b5d-821b-7da978bf7442'
var jobsRoleId = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', mayCancelJobs ? openAiContributor : openAiUser)
var accountsRoleId = guid(subscription().id, environmentName, token, 'accounts')
var readActions = [
  // Reads one account and lists them all: the event tells nothing but an id.
  'Microsoft.CognitiveServices/accounts/read'
  // A vault's URL does not say where its resource is: it is looked for by name.
  'Microsoft.KeyVault/vaults/read'
  // Tells a deleted vault that can be recovered from one that never was.
  'Microsoft.KeyVault/deletedVaults/read'
]
var writeActions = [
  // Switches the account's identity on and writes the record into its tags.
  'Microsoft.CognitiveServices/accounts/write'
]

// A no-op where the deployment has just made the group itself.
resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = if (topicIsNew) {
  name: groupName
  location: location
  tags: tags
}

// Not Contributor: nothing but accounts can be changed, none can be deleted, no key can be listed.
// A plain resource: the AVM pattern for role definitions is built for management groups.
resource accountsRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: accountsRoleId
  properties: {
    roleName: 'WandB relay - ${mayWrite ? 'look after' : 'observe'} accounts (${environmentName}, ${substring(subscription().subscriptionId, 0, 8)}, ${token})'
    description: 'Reads Azure OpenAI accounts and vaults, and switches identities and tags of accounts.'
    type: 'CustomRole'
    assignableScopes: [
      subscription().id
    ]
    permissions: [
      {
        actions: mayWrite ? concat(readActions, writeActions) : readActions
      }
    ]
  }
}

resource accountsAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, principalId, accountsRoleId)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: accountsRole.id
    description: 'Checks accounts, switches their identity on, records the integration in tags.'
  }
}

// A plain resource: infra/hooks/ takes it back by its name. AVM's module made the same name from
// the same parts, so deployments that used it keep their assignment.
resource readJobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().subscriptionId, jobsRoleId, principalId)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: jobsRoleId
    description: 'Reads fine-tuning jobs, their events, checkpoints and result files.'
  }
}

module topic 'system-topic.bicep' = {
  name: 'account-topic-${token}'
  scope: resourceGroup(split(topicId, '/')[2], split(topicId, '/')[4])
  params: {
    name: last(split(topicId, '/'))
    isNew: topicIsNew
    vaultName: ''
    token: token
    tags: tags
    actionGroupId: actionGroupId
  }
  dependsOn: [
    group
  ]
}

// What the settings give: infra/hooks/ takes back what an earlier deployment gave beyond it.
output rights object = {
  assignments: [
    accountsAssignment.id
    readJobs.id
  ]
  roles: [
    accountsRole.id
  ]
}
output topicPrincipalId string = topic.outputs.principalId
