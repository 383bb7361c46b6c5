// The whole deployment, from a subscription: what is created and who may do what.
// The order of creation follows from the references; docs/deploy.md explains every parameter and
// docs/security.md every right. Event subscriptions are made after the code is there, by
// infra/hooks/.
targetScope = 'subscription'

@description('Name of the azd environment; part of the names of all resources.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Region of the function app, its storage, a new vault and the logs. Flex Consumption must be offered there.')
@metadata({
  azd: {
    type: 'location'
  }
})
param location string

@description('Resource group to create, used by nothing else: azd down deletes it. Empty: rg-ENVIRONMENT.')
param resourceGroupName string = ''

@description('Tags put on every resource beside azd-env-name and wandb-finetune-relay.')
param extraTags object = {}

@description('Ids of the subscriptions whose accounts are looked after, comma-separated. Empty: the one deployed to. The vault\'s subscription must be among them.')
param watchedSubscriptionIds string = ''

// --- The vault with the W&B key ---------------------------------------------------------------

@description('Resource id of an existing vault that holds the W&B key. Empty: a new vault with Azure RBAC and purge protection.')
param keyVaultId string = ''

@description('Resource ids of further vaults that tags on accounts may choose among, comma-separated.')
param additionalVaultIds string = ''

@description('Permission model of the existing vaults. A new vault always uses Azure RBAC.')
@allowed([
  'rbac'
  'accessPolicies'
])
param vaultPermissionModel string = 'rbac'

@description('Name of the secret whose value is the W&B key. The secret itself is never part of a template: docs/deploy.md shows how to put it there.')
param wandbSecretName string = 'wandb-api-key'

@description('Further secret names that tags on accounts may choose among, comma-separated.')
param additionalSecretNames string = ''

// --- The app's settings (finetune_wandb/model/settings.py explains each) -------------------------------------

@description('Address of W&B\'s API; change it for a dedicated or self-hosted W&B.')
param wandbBaseUrl string = 'https://api.forge.coreweave.com'

@description('W&B team or user that runs belong to. Empty: the one that the key belongs to.')
param wandbEntity string = ''

@description('W&B project of runs whose account and job name none.')
param wandbProject string = 'azure-openai-fine-tuning'

@description('all: every account unless tagged off. tagged: only accounts that are tagged.')
@allowed([
  'all'
  'tagged'
])
param onboardingScope string = 'all'

@description('What the app may change. observe gives its identity no right to write or to assign roles.')
@allowed([
  'observe'
  'full'
])
param applyMode string = 'full'

@description('Role that the app gives to an account\'s identity on the vault.')
@allowed([
  'Key Vault Secrets Officer'
  'Key Vault Secrets User'
])
param vaultRole string = 'Key Vault Secrets Officer'

@description('Whether that role is given on the vault or on the one secret.')
@allowed([
  'vault'
  'secret'
])
param vaultRoleScope string = 'vault'

@description('Jobs that carry their own W&B integration: left to it, or relayed as well.')
@allowed([
  'skip'
  'relay'
])
param nativeJobs string = 'skip'

@description('What of a training file reaches W&B.')
@allowed([
  'metadata'
  'content'
])
param datasets string = 'metadata'

@description('What a press on Stop in W&B does: noted, or the fine-tuning job is cancelled as well. cancel gives the app a stronger role on accounts.')
@allowed([
  'note'
  'cancel'
])
param onWandbStop string = 'note'

@description('mint: the app makes new W&B keys itself before the one in use ends. It then may write secrets of the vaults, not only read them.')
@allowed([
  'off'
  'mint'
])
param rotation string = 'off'

@description('When metrics are relayed: six-field NCRONTAB, UTC.')
param relaySchedule string = '0 * * * * *'

@description('When every account is checked without an event: six-field NCRONTAB, UTC.')
param driftSchedule string = '0 17 * * * *'

@description('Any other setting of the app, by its name; wins over everything above.')
param extraAppSettings object = {}

// --- Rights -----------------------------------------------------------------------------------

@description('The app\'s right to give the vault role: RBAC Administrator with a condition that allows only that role and only service principals; Key Vault Data Access Administrator; or none, for people who assign roles themselves.')
@allowed([
  'conditioned'
  'dataAccessAdministrator'
  'none'
])
param roleAssignmentRight string = 'conditioned'

// --- Events -----------------------------------------------------------------------------------

@description('Event Grid system topics that exist already (a source can have only one), as an object from the source\'s resource id (/subscriptions/ID or the vault\'s id), in lower case, to the topic\'s resource id. Each needs a system-assigned identity.')
param existingTopics object = {}

@description('Create a topic that the app publishes its state changes to, for people\'s own alerts.')
param noticesTopicEnabled bool = false

// --- Network ----------------------------------------------------------------------------------

@description('Put the app into a virtual network, and storage and a new vault behind private endpoints.')
param privateNetworking bool = false

@description('Address space of that network; at least a /24.')
param virtualNetworkAddressPrefix string = '10.90.0.0/24'

@description('Resource id of a NAT gateway for the way to the internet, where the network has no other.')
param natGatewayId string = ''

@description('Address ranges that may call the app over HTTP, comma-separated CIDR. Event Grid always may. Empty: anybody who has a function key.')
param allowedIpRanges string = ''

// --- Size and alerts --------------------------------------------------------------------------

@description('Most instances that the app may scale to.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Memory of one instance, in MB.')
@allowed([
  2048
  4096
])
param instanceMemoryMB int = 2048

@description('Create alert rules (docs/deploy.md lists them).')
param alertsEnabled bool = true

@description('How long no relay tick may succeed before somebody is told. Widen it with a slower relaySchedule.')
@allowed([
  'PT15M'
  'PT30M'
  'PT1H'
  'PT6H'
  'P1D'
])
param relaySilenceWindow string = 'PT15M'

@description('Mail addresses that alerts go to, comma-separated. Empty: alerts are seen in the portal only.')
param alertEmails string = ''

@description('Days that logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

var abbreviations = loadJsonContent('abbreviations.json')
var defaultSettings = loadJsonContent('app-settings.json')
var token = toLower(uniqueString(subscription().id, environmentName, location))
var groupName = empty(resourceGroupName) ? '${abbreviations.resourceGroup}${environmentName}' : resourceGroupName
// With the second, infra/hooks/ knows this deployment's resource group from that of another azd
// project whose environment has the same name.
var tags = union(extraTags, {
  'azd-env-name': environmentName
  'wandb-finetune-relay': token
})
var watchedText = empty(watchedSubscriptionIds) ? subscription().subscriptionId : replace(watchedSubscriptionIds, ' ', '')
var watched = split(toLower(watchedText), ',')

var vaultIsNew = empty(keyVaultId)
var newVaultName = '${abbreviations.keyVault}${token}'
var newVaultId = '${subscription().id}/resourceGroups/${groupName}/providers/Microsoft.KeyVault/vaults/${newVaultName}'
var furtherVaultIds = empty(additionalVaultIds) ? [] : split(replace(additionalVaultIds, ' ', ''), ',')
// The first is the default one; only it can be new.
var vaultIds = concat([
  vaultIsNew ? newVaultId : keyVaultId
], furtherVaultIds)
var vaultNames = map(vaultIds, item => toLower(last(split(item, '/'))))
var secretNames = concat([
  wandbSecretName
], empty(additionalSecretNames) ? [] : split(replace(additionalSecretNames, ' ', ''), ','))

var mayWrite = applyMode != 'observe'
var functionAppName = '${abbreviations.functionApp}${token}'
var storageName = '${abbreviations.storageAccount}${token}'
var emails = empty(alertEmails) ? [] : split(replace(alertEmails, ' ', ''), ',')
var accountTopicName = '${abbreviations.eventGridSystemTopic}accounts-${token}'
var vaultTopicName = '${abbreviations.eventGridSystemTopic}vault-${token}'
var topicType = 'Microsoft.EventGrid/systemTopics'
// Where topics are is known beforehand, so that the hooks need no output of a loop.
var accountTopicIds = map(watched, id => existingTopics[?'/subscriptions/${id}'] ?? '/subscriptions/${id}/resourceGroups/${groupName}/providers/${topicType}/${accountTopicName}')
var vaultTopicIds = map(vaultIds, id => existingTopics[?toLower(id)] ?? '/subscriptions/${split(id, '/')[2]}/resourceGroups/${split(id, '/')[4]}/providers/${topicType}/${vaultTopicName}-${last(split(id, '/'))}')
var ipRanges = empty(allowedIpRanges) ? [] : split(replace(allowedIpRanges, ' ', ''), ',')

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: groupName
  location: location
  tags: tags
}

// User-assigned: it has its roles before the app exists, and keeps them when the app is made anew.
module identity 'br/public:avm/res/managed-identity/user-assigned-identity:0.6.0' = {
  name: 'identity-${token}'
  scope: group
  params: {
    name: '${abbreviations.managedIdentity}${token}'
    location: location
    tags: tags
    enableTelemetry: false
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring-${token}'
  scope: group
  params: {
    workspaceName: '${abbreviations.logAnalyticsWorkspace}${token}'
    componentName: '${abbreviations.applicationInsights}${token}'
    location: location
    tags: tags
    retentionDays: logRetentionDays
    principalId: identity.outputs.principalId
  }
}

module alerts 'modules/alerts.bicep' = if (alertsEnabled) {
  name: 'alerts-${token}'
  scope: group
  params: {
    actionGroupName: '${abbreviations.actionGroup}${token}'
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    emails: emails
    relaySilenceWindow: relaySilenceWindow
  }
}

module network 'modules/network.bicep' = if (privateNetworking) {
  name: 'network-${token}'
  scope: group
  params: {
    name: '${abbreviations.virtualNetwork}${token}'
    location: location
    tags: tags
    addressPrefix: virtualNetworkAddressPrefix
    natGatewayId: natGatewayId
    hasVaultEndpoint: vaultIsNew
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage-${token}'
  scope: group
  params: {
    name: storageName
    location: location
    tags: tags
    principalId: identity.outputs.principalId
    privateNetworking: privateNetworking
    endpointSubnetId: privateNetworking ? network!.outputs.endpointSubnetId : ''
    blobZoneId: privateNetworking ? network!.outputs.blobZoneId : ''
    queueZoneId: privateNetworking ? network!.outputs.queueZoneId : ''
    tableZoneId: privateNetworking ? network!.outputs.tableZoneId : ''
  }
}

module vault 'modules/vault.bicep' = if (vaultIsNew) {
  name: 'vault-${token}'
  scope: group
  params: {
    name: newVaultName
    location: location
    tags: tags
    privateNetworking: privateNetworking
    endpointSubnetId: privateNetworking ? network!.outputs.endpointSubnetId : ''
    zoneId: privateNetworking ? network!.outputs.vaultZoneId : ''
  }
}

module vaultAccess 'modules/vault-access.bicep' = [for (vaultId, index) in vaultIds: {
  name: 'vault-access-${index}-${token}'
  scope: resourceGroup(split(vaultId, '/')[2], split(vaultId, '/')[4])
  params: {
    vaultName: last(split(vaultId, '/'))
    principalId: identity.outputs.principalId
    usesAccessPolicies: vaultPermissionModel == 'accessPolicies' && !(vaultIsNew && index == 0)
    grantedRole: vaultRole
    mayWriteSecrets: mayWrite && rotation == 'mint'
    roleAssignmentRight: mayWrite ? roleAssignmentRight : 'none'
    environmentName: environmentName
  }
  dependsOn: [
    vault
  ]
}]

module vaultTopics 'modules/system-topic.bicep' = [for (vaultId, index) in vaultIds: {
  name: 'vault-topic-${index}-${token}'
  scope: resourceGroup(split(vaultTopicIds[index], '/')[2], split(vaultTopicIds[index], '/')[4])
  params: {
    name: last(split(vaultTopicIds[index], '/'))
    isNew: !contains(existingTopics, toLower(vaultId))
    vaultName: last(split(vaultId, '/'))
    token: token
    tags: tags
    actionGroupId: alertsEnabled ? alerts!.outputs.actionGroupId : ''
  }
  dependsOn: [
    vault
  ]
}]

module subscriptions 'modules/subscription.bicep' = [for (id, index) in watched: {
  name: 'subscription-${index}-${token}'
  scope: subscription(id)
  params: {
    environmentName: environmentName
    token: token
    location: location
    tags: tags
    groupName: groupName
    topicId: accountTopicIds[index]
    topicIsNew: !contains(existingTopics, '/subscriptions/${id}')
    principalId: identity.outputs.principalId
    mayWrite: mayWrite
    mayCancelJobs: mayWrite && onWandbStop == 'cancel'
    actionGroupId: alertsEnabled ? alerts!.outputs.actionGroupId : ''
  }
}]

module vaultDeadLetters 'modules/dead-letter-access.bicep' = [for (vaultId, index) in vaultIds: {
  name: 'vault-dead-letters-${index}-${token}'
  scope: group
  params: {
    storageName: storage.outputs.name
    principalId: vaultTopics[index].outputs.principalId
  }
}]

module subscriptionDeadLetters 'modules/dead-letter-access.bicep' = [for (id, index) in watched: {
  name: 'subscription-dead-letters-${index}-${token}'
  scope: group
  params: {
    storageName: storage.outputs.name
    principalId: subscriptions[index].outputs.topicPrincipalId
  }
}]

module notices 'modules/notices.bicep' = if (noticesTopicEnabled) {
  name: 'notices-${token}'
  scope: group
  params: {
    name: '${abbreviations.eventGridTopic}${token}'
    location: location
    tags: tags
    principalId: identity.outputs.principalId
  }
}

// Everything the app reads (finetune_wandb/model/settings.py); tests/infra keeps both sides equal.
var settings = union(defaultSettings, {
  AZURE_SUBSCRIPTION_IDS: join(watched, ',')
  KEY_VAULT_URL: 'https://${vaultNames[0]}${environment().suffixes.keyvaultDns}'
  WANDB_SECRET_NAME: wandbSecretName
  ALLOWED_VAULTS: join(vaultNames, ',')
  ALLOWED_SECRETS: join(secretNames, ',')
  WANDB_BASE_URL: wandbBaseUrl
  WANDB_ENTITY: wandbEntity
  WANDB_PROJECT: wandbProject
  ONBOARDING_SCOPE: onboardingScope
  APPLY_MODE: applyMode
  VAULT_ROLE: vaultRole
  VAULT_ROLE_SCOPE: vaultRoleScope
  NATIVE_JOBS: nativeJobs
  DATASETS: datasets
  ON_WANDB_STOP: onWandbStop
  ROTATION: rotation
  RELAY_SCHEDULE: relaySchedule
  DRIFT_SCHEDULE: driftSchedule
  NOTIFY_TOPIC_ENDPOINT: noticesTopicEnabled ? notices!.outputs.endpoint : ''
}, extraAppSettings)

module app 'modules/app.bicep' = {
  name: 'app-${token}'
  scope: group
  params: {
    name: functionAppName
    planName: '${abbreviations.plan}${token}'
    location: location
    tags: tags
    identityId: identity.outputs.resourceId
    identityClientId: identity.outputs.clientId
    storageName: storage.outputs.name
    deploymentContainerUrl: storage.outputs.deploymentContainerUrl
    monitoringConnectionString: monitoring.outputs.connectionString
    settings: settings
    subnetId: privateNetworking ? network!.outputs.appSubnetId : ''
    allowedIpRanges: ipRanges
    maximumInstanceCount: maximumInstanceCount
    instanceMemoryMB: instanceMemoryMB
  }
}

// Read by infra/hooks/ and shown by `azd env get-values`.
output AZURE_LOCATION string = location
output AZURE_RESOURCE_GROUP string = group.name
output FUNCTION_APP_NAME string = functionAppName
output FUNCTION_APP_ID string = app.outputs.appId
output FUNCTION_APP_URL string = app.outputs.url
output APP_IDENTITY_PRINCIPAL_ID string = identity.outputs.principalId
output STORAGE_ACCOUNT_ID string = storage.outputs.id
output DEAD_LETTER_CONTAINER string = storage.outputs.deadLetterContainer
output KEY_VAULT_NAME string = vaultNames[0]
output WANDB_SECRET_NAMES string = join(secretNames, ' ')
output ACCOUNT_TOPIC_IDS string = join(accountTopicIds, ' ')
output VAULT_TOPIC_IDS string = join(vaultTopicIds, ' ')
output EVENT_SUBSCRIPTION_SUFFIX string = token
output NOTICES_TOPIC_NAME string = noticesTopicEnabled ? '${abbreviations.eventGridTopic}${token}' : ''
output VAULT_RIGHTS array = [for (vaultId, index) in vaultIds: vaultAccess[index].outputs.rights]
output SUBSCRIPTION_RIGHTS array = [for (id, index) in watched: subscriptions[index].outputs.rights]
