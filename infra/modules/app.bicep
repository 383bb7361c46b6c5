// The function app on Flex Consumption. It holds no secret: storage, telemetry and deployment all
// go by its identity.

@description('Name of the function app.')
param name string

@description('Name of the plan.')
param planName string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Resource id of the app\'s identity.')
param identityId string

@description('Client id of the app\'s identity.')
param identityClientId string

@description('Name of the app\'s storage account.')
param storageName string

@description('Where the deployment package is put.')
param deploymentContainerUrl string

@description('Connection string of Application Insights; no credential, since local authentication is off there.')
param monitoringConnectionString string

@description('The settings that the app\'s own code reads.')
param settings object

@description('Subnet of the app; empty for none.')
param subnetId string

@description('Address ranges that may call the app over HTTP; empty for all.')
param allowedIpRanges array

@description('Most instances.')
param maximumInstanceCount int

@description('Memory of an instance, in MB.')
param instanceMemoryMB int

var storageSuffix = environment().suffixes.storage
// What host and SDKs read. The runtime itself is in functionAppConfig: Flex Consumption refuses
// FUNCTIONS_WORKER_RUNTIME and its like.
var platformSettings = {
  AzureWebJobsStorage__blobServiceUri: 'https://${storageName}.blob.${storageSuffix}'
  AzureWebJobsStorage__queueServiceUri: 'https://${storageName}.queue.${storageSuffix}'
  AzureWebJobsStorage__tableServiceUri: 'https://${storageName}.table.${storageSuffix}'
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  AZURE_CLIENT_ID: identityClientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: monitoringConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
}
var openRules = []
var eventGridRule = [
  {
    name: 'event-grid'
    description: 'Event Grid delivers events.'
    priority: 100
    action: 'Allow'
    tag: 'ServiceTag'
    ipAddress: 'AzureEventGrid'
  }
]
var callerRules = [for (range, index) in allowedIpRanges: {
  name: 'caller-${index}'
  priority: 200 + index
  action: 'Allow'
  ipAddress: range
}]

module plan 'br/public:avm/res/web/serverfarm:0.7.0' = {
  name: '${deployment().name}-plan'
  params: {
    name: planName
    location: location
    tags: tags
    kind: 'functionapp'
    skuName: 'FC1'
    reserved: true
    enableTelemetry: false
  }
}

module app 'br/public:avm/res/web/site:0.24.0' = {
  name: '${deployment().name}-app'
  params: {
    name: name
    location: location
    kind: 'functionapp,linux'
    // azd finds the app of a service by this tag.
    tags: union(tags, {
      'azd-service-name': 'relay'
    })
    serverFarmResourceId: plan.outputs.resourceId
    reserved: true
    httpsOnly: true
    clientAffinityEnabled: false
    publicNetworkAccess: 'Enabled'
    managedIdentities: {
      userAssignedResourceIds: [
        identityId
      ]
    }
    virtualNetworkSubnetResourceId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: deploymentContainerUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        maximumInstanceCount: maximumInstanceCount
        instanceMemoryMB: instanceMemoryMB
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      ftpsState: 'Disabled'
      ipSecurityRestrictionsDefaultAction: empty(allowedIpRanges) ? 'Allow' : 'Deny'
      ipSecurityRestrictions: empty(allowedIpRanges) ? openRules : concat(eventGridRule, callerRules)
    }
    basicPublishingCredentialsPolicies: [
      {
        name: 'ftp'
        allow: false
      }
      {
        name: 'scm'
        allow: false
      }
    ]
    configs: [
      {
        name: 'appsettings'
        // Otherwise a setting that was removed here would live on in the app.
        retainCurrentAppSettings: false
        properties: union(settings, platformSettings)
      }
    ]
    enableTelemetry: false
  }
}

output appId string = app.outputs.resourceId
output url string = 'https://${app.outputs.defaultHostname}'
