// A new vault for the W&B key: Azure RBAC, soft delete, purge protection.

@description('Name of the vault.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Close the public endpoint and make a private one.')
param privateNetworking bool

@description('Subnet of the private endpoint; empty without private networking.')
param endpointSubnetId string

@description('Private DNS zone of vaults.')
param zoneId string

module vault 'br/public:avm/res/key-vault/vault:0.14.0' = {
  name: '${deployment().name}-vault'
  params: {
    name: name
    location: location
    tags: tags
    sku: 'standard'
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    enableVaultForDeployment: false
    enableVaultForTemplateDeployment: false
    enableVaultForDiskEncryption: false
    publicNetworkAccess: privateNetworking ? 'Disabled' : 'Enabled'
    networkAcls: {
      // Azure OpenAI reads the key as a trusted service.
      bypass: 'AzureServices'
      defaultAction: privateNetworking ? 'Deny' : 'Allow'
    }
    privateEndpoints: privateNetworking ? [
      {
        subnetResourceId: endpointSubnetId
        privateDnsZoneGroup: {
          privateDnsZoneGroupConfigs: [
            {
              privateDnsZoneResourceId: zoneId
            }
          ]
        }
      }
    ] : []
    enableTelemetry: false
  }
}

output id string = vault.outputs.resourceId
