// Logs and metrics. Ingestion takes Entra tokens only: the connection string is no credential.

@description('Name of the Log Analytics workspace.')
param workspaceName string

@description('Name of the Application Insights component.')
param componentName string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Days that logs are kept.')
param retentionDays int

@description('Object id of the app\'s identity.')
param principalId string

// Monitoring Metrics Publisher: the host and the app send telemetry; it reads nothing.
var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

module workspace 'br/public:avm/res/operational-insights/workspace:0.16.1' = {
  name: '${deployment().name}-workspace'
  params: {
    name: workspaceName
    location: location
    tags: tags
    dataRetention: retentionDays
    // The module's default is meant for workspaces with a customer-managed key.
    forceCmkForQuery: false
    enableTelemetry: false
  }
}

module component 'br/public:avm/res/insights/component:0.8.0' = {
  name: '${deployment().name}-component'
  params: {
    name: componentName
    location: location
    tags: tags
    workspaceResourceId: workspace.outputs.resourceId
    // The data is in the workspace, whose retention counts.
    retentionInDays: 90
    disableLocalAuth: true
    disableIpMasking: false
    roleAssignments: [
      {
        principalId: principalId
        principalType: 'ServicePrincipal'
        roleDefinitionIdOrName: metricsPublisher
      }
    ]
    enableTelemetry: false
  }
}

output workspaceId string = workspace.outputs.resourceId
output connectionString string = component.outputs.connectionString
