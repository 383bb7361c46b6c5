// The topic that the app publishes its state changes to. People subscribe to it themselves.

@description('Name of the topic.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Object id of the app\'s identity.')
param principalId string

// EventGrid Data Sender: publishes, and can neither read nor subscribe.
var dataSender = 'd5a91429-5739-47e2-a06b-3470a27159e7'

module topic 'br/public:avm/res/event-grid/topic:0.10.0' = {
  name: '${deployment().name}-topic'
  params: {
    name: name
    location: location
    tags: tags
    // What finetune_wandb/clients/azure/notices.py sends.
    inputSchema: 'CloudEventSchemaV1_0'
    disableLocalAuth: true
    publicNetworkAccess: 'Enabled'
    roleAssignments: [
      {
        principalId: principalId
        principalType: 'ServicePrincipal'
        roleDefinitionIdOrName: dataSender
      }
    ]
    enableTelemetry: false
  }
}

output endpoint string = topic.outputs.endpoint
