// The app's own storage: queues and tables that the code names, its package, dead letters.
// There is no key to lose: shared keys are off, everybody comes with an identity.

@description('Name of the storage account.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Object id of the app\'s identity.')
param principalId string

@description('Close the public endpoint and make private ones.')
param privateNetworking bool

@description('Subnet of the private endpoints; empty without private networking.')
param endpointSubnetId string

@description('Private DNS zone of blobs.')
param blobZoneId string

@description('Private DNS zone of queues.')
param queueZoneId string

@description('Private DNS zone of tables.')
param tableZoneId string

var deploymentContainer = 'app-package'
var deadLetterContainer = 'dead-letters'
// The host moves a message that failed maxDequeueCount times to NAME-poison. They are made here so
// that an alert or a person can look at them before the first message fails.
var queueNames = [
  'backfill-jobs'
  'backfill-jobs-poison'
  'job-artifacts'
  'job-artifacts-poison'
  'reconcile-accounts'
  'reconcile-accounts-poison'
  'relay-jobs'
  'relay-jobs-poison'
]
var tableNames = [
  'accounts'
  'jobs'
  'audit'
  'keymints'
  'keys'
  'problems'
  'resyncs'
  'work'
]
// Storage Blob Data Owner: the host's leases, timers' state and the deployment package.
var blobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
// Storage Queue Data Contributor: triggers read and delete, the app sends.
var queueDataContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
// Storage Table Data Contributor: the app's tables and the host's diagnostic events.
var tableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
var roles = [
  blobDataOwner
  queueDataContributor
  tableDataContributor
]
var services = [
  {
    name: 'blob'
    zoneId: blobZoneId
  }
  {
    name: 'queue'
    zoneId: queueZoneId
  }
  {
    name: 'table'
    zoneId: tableZoneId
  }
]
var privateEndpoints = [for service in services: {
  service: service.name
  subnetResourceId: endpointSubnetId
  privateDnsZoneGroup: {
    privateDnsZoneGroupConfigs: [
      {
        privateDnsZoneResourceId: service.zoneId
      }
    ]
  }
}]
var containerNames = [
  deploymentContainer
  deadLetterContainer
]
var containers = [for container in containerNames: {
  name: container
  publicAccess: 'None'
}]
var queues = [for queue in queueNames: {
  name: queue
}]
var tables = [for table in tableNames: {
  name: table
}]
var roleAssignments = [for role in roles: {
  principalId: principalId
  principalType: 'ServicePrincipal'
  roleDefinitionIdOrName: role
}]

module account 'br/public:avm/res/storage/storage-account:0.33.0' = {
  name: '${deployment().name}-account'
  params: {
    name: name
    location: location
    tags: tags
    // What is in it can be made again from Azure and W&B, cursors included (docs/deploy.md).
    skuName: 'Standard_LRS'
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    allowBlobPublicAccess: false
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: privateNetworking ? 'Disabled' : 'Enabled'
    networkAcls: {
      // Event Grid writes dead letters as a trusted service, with its topic's identity.
      bypass: 'AzureServices'
      defaultAction: privateNetworking ? 'Deny' : 'Allow'
    }
    blobServices: {
      containers: containers
      deleteRetentionPolicyEnabled: true
      deleteRetentionPolicyDays: 7
    }
    queueServices: {
      queues: queues
    }
    tableServices: {
      tables: tables
    }
    managementPolicyRules: [
      {
        enabled: true
        name: 'forget-dead-letters'
        type: 'Lifecycle'
        definition: {
          // They hold whole events, so people's names and addresses too (docs/security.md).
          filters: {
            blobTypes: [
              'blockBlob'
            ]
            prefixMatch: [
              '${deadLetterContainer}/'
            ]
          }
          actions: {
            baseBlob: {
              delete: {
                daysAfterModificationGreaterThan: 30
              }
            }
          }
        }
      }
    ]
    privateEndpoints: privateNetworking ? privateEndpoints : []
    roleAssignments: roleAssignments
    enableTelemetry: false
  }
}

output id string = account.outputs.resourceId
output name string = account.outputs.name
output deploymentContainerUrl string = 'https://${account.outputs.name}.blob.${environment().suffixes.storage}/${deploymentContainer}'
output deadLetterContainer string = deadLetterContainer
