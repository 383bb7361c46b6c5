// Lets the identity of one system topic write dead letters: into that container, nowhere else.
// A plain resource: the AVM role modules reach resource groups and subscriptions, and the pattern
// module for single resources takes no child resource without an id composed by hand.

@description('Name of the storage account.')
param storageName string

@description('Object id of the topic\'s identity.')
param principalId string

// Storage Blob Data Contributor: Event Grid's documentation asks for it to write dead letters.
var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'

resource storage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: storageName
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' existing = {
  parent: storage
  name: 'default'
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = {
  parent: blobs
  name: 'dead-letters'
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(container.id, principalId, blobDataContributor)
  scope: container
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
    description: 'Event Grid writes undeliverable events here.'
  }
}
