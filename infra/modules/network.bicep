// A network of two subnets: the app's, and that of the private endpoints; and their DNS zones.

@description('Name of the network.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Address space, at least a /24.')
param addressPrefix string

@description('Resource id of a NAT gateway, or empty.')
param natGatewayId string

@description('Whether a new vault gets a private endpoint here.')
param hasVaultEndpoint bool

// An empty zone for vaults would hide the address of every existing vault that has a private
// endpoint elsewhere, so there is one only for a new vault.
var vaultZone = 'privatelink${replace(environment().suffixes.keyvaultDns, '.vault.', '.vaultcore.')}'
var zoneNames = concat([
  'privatelink.blob.${environment().suffixes.storage}'
  'privatelink.queue.${environment().suffixes.storage}'
  'privatelink.table.${environment().suffixes.storage}'
], hasVaultEndpoint ? [
  vaultZone
] : [])

module network 'br/public:avm/res/network/virtual-network:0.10.1' = {
  name: '${deployment().name}-network'
  params: {
    name: name
    location: location
    tags: tags
    addressPrefixes: [
      addressPrefix
    ]
    subnets: [
      {
        name: 'app'
        addressPrefix: cidrSubnet(addressPrefix, 26, 0)
        // What Flex Consumption asks for.
        delegation: 'Microsoft.App/environments'
        natGatewayResourceId: empty(natGatewayId) ? null : natGatewayId
        // Newer API versions give a subnet no way out unless it is asked for.
        defaultOutboundAccess: empty(natGatewayId) ? true : null
      }
      {
        name: 'endpoints'
        addressPrefix: cidrSubnet(addressPrefix, 26, 1)
      }
    ]
    enableTelemetry: false
  }
}

module zones 'br/public:avm/res/network/private-dns-zone:0.8.1' = [for (zone, index) in zoneNames: {
  name: '${deployment().name}-zone-${index}'
  params: {
    name: zone
    tags: tags
    virtualNetworkLinks: [
      {
        virtualNetworkResourceId: network.outputs.resourceId
        registrationEnabled: false
        // Further vaults, whose endpoints are elsewhere, are looked up in the public DNS.
        resolutionPolicy: zone == vaultZone ? 'NxDomainRedirect' : 'Default'
      }
    ]
    enableTelemetry: false
  }
}]

output appSubnetId string = network.outputs.subnetResourceIds[0]
output endpointSubnetId string = network.outputs.subnetResourceIds[1]
output blobZoneId string = zones[0].outputs.resourceId
output queueZoneId string = zones[1].outputs.resourceId
output tableZoneId string = zones[2].outputs.resourceId
output vaultZoneId string = hasVaultEndpoint ? zones[3].outputs.resourceId : ''
