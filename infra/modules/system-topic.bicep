// The system topic of one source: a vault of this resource group, or this subscription.
// A source can have only one topic, so that one that exists is used as it is. Its identity writes
// dead letters. The event subscriptions follow after deployment (infra/hooks/).

@description('Name of the topic.')
param name string

@description('Whether the topic is to be made; otherwise one of that name is there already.')
param isNew bool

@description('Name of the vault; empty for the events of the subscription.')
param vaultName string

@description('Token that makes names unique.')
param token string

@description('Tags.')
param tags object

@description('Action group of the alert; empty for none.')
param actionGroupId string

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' existing = if (isNew && !empty(vaultName)) {
  name: vaultName
}

module topic 'br/public:avm/res/event-grid/system-topic:0.7.0' = if (isNew) {
  name: '${deployment().name}-topic'
  params: {
    name: name
    // A topic lives where its source lives; a subscription is everywhere.
    location: empty(vaultName) ? 'global' : vault!.location
    source: empty(vaultName) ? subscription().id : vault.id
    topicType: empty(vaultName) ? 'Microsoft.Resources.Subscriptions' : 'Microsoft.KeyVault.vaults'
    tags: tags
    managedIdentities: {
      systemAssigned: true
    }
    enableTelemetry: false
  }
}

resource present 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = if (!isNew) {
  name: name
}

module deadLetterAlert 'br/public:avm/res/insights/metric-alert:0.4.1' = if (!empty(actionGroupId)) {
  name: '${deployment().name}-alert'
  params: {
    // A topic that existed may serve several deployments, each with an alert of its own.
    name: isNew ? '${name}-dead-letters' : '${name}-dead-letters-${token}'
    alertDescription: 'Events could not be delivered to the function app and were set aside as dead letters. docs/troubleshooting.md, "Events do not arrive".'
    severity: 2
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    scopes: [
      isNew ? topic!.outputs.resourceId : present!.id
    ]
    targetResourceType: 'Microsoft.EventGrid/systemTopics'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allof: [
        {
          name: 'DeadLettered'
          criterionType: 'StaticThresholdCriterion'
          metricName: 'DeadLetteredCount'
          metricNamespace: 'Microsoft.EventGrid/systemTopics'
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Total'
        }
      ]
    }
    actions: [
      actionGroupId
    ]
    tags: tags
    enableTelemetry: false
  }
}

output principalId string = isNew ? (topic!.outputs.?systemAssignedMIPrincipalId ?? '') : (present.?identity.?principalId ?? '')
