// Who is told when: log alerts over what the host and the app write. Dead letters have a metric
// alert beside each topic (system-topic.bicep). tests/infra holds the texts searched for here
// equal to those that the code logs.

@description('Name of the action group.')
param actionGroupName string

@description('Region of the rules.')
param location string

@description('Tags.')
param tags object

@description('Resource id of the Log Analytics workspace.')
param workspaceId string

@description('Mail addresses that are told.')
param emails array

@description('How long no relay tick may succeed.')
param relaySilenceWindow string

@description('When this deployment began: the first tick has an hour to come.')
param deployedAt string = utcNow('yyyy-MM-ddTHH:mm:ss')

var failingQuery = '''
AppRequests
| where Success == false
| summarize Failures = sum(ItemCount) by Name
| where Failures > 5
'''
var stoppedTemplate = '''
union
  (AppRequests
  | where Name == "relay_timer" and Success == true
  | project TimeGenerated),
  (print TimeGenerated = now()
  | where TimeGenerated < datetime(DEPLOYED) + 1h)
'''
var stoppedQuery = replace(stoppedTemplate, 'DEPLOYED', deployedAt)
// Messages that ticks sent, less those that were worked off.
var behindQuery = '''
union
  (AppTraces
  | where Message startswith "tick: "
  | parse Message with "tick: " * " jobs listed, " Messages:long " messages, " *
  | project Open = Messages * ItemCount),
  (AppRequests
  | where Name == "relay_jobs" and Success == true
  | project Open = -1 * ItemCount)
| summarize Behind = sum(Open)
| where Behind > 50
'''
// The lag that the relay measures, of jobs that go on: an old job's values are late by nature.
var lateQuery = '''
AppTraces
| where Message startswith "job " and Message contains ": state=live "
| extend Lag = todouble(extract(" lag_s=([0-9.]+)", 1, Message))
| summarize Median = percentile(Lag, 50), Jobs = count()
| where Median > 600
'''
var jobsQuery = '''
AppTraces
| where SeverityLevel >= 2
| where Message startswith "job " or Message contains ": its jobs cannot be listed: "
| extend Subject = extract("^(job|account) ([^:]+): ", 2, Message)
| summarize Times = sum(ItemCount) by Subject
| where Times > 10 or Subject startswith "/subscriptions/"
'''
// Only the newest word counts: an account is not healthy while its roles spread.
var unhealthyQuery = '''
AppTraces
| where Message startswith "account " and Message contains "healthy, "
| extend Account = extract("^account ([^:]+): ", 1, Message)
| summarize arg_max(TimeGenerated, Message) by Account
| where Message contains ": not healthy, "
'''
// The host's own words when a message failed maxDequeueCount times.
var poisonQuery = '''
AppTraces
| where Message contains "Moving message to queue" and Message contains "-poison"
'''
var keyQuery = '''
AppTraces
| where Message startswith "key "
| where Message matches regex "secret_expires_soon|secret_no_expiry|secret_expired|secret_missing|secret_disabled|key_rejected|key_malformed"
| extend Key = extract("^key ([^:]+): ", 1, Message)
| summarize arg_max(TimeGenerated, Message) by Key
'''
var rules = [
  {
    name: 'app-failing'
    description: 'A function failed more than five times in a quarter of an hour.'
    severity: 1
    query: failingQuery
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT15M'
    frequency: 'PT15M'
  }
  {
    name: 'relay-stopped'
    description: 'No relay tick succeeded lately: no metrics reach W&B.'
    severity: 1
    query: stoppedQuery
    operator: 'LessThan'
    threshold: 1
    window: relaySilenceWindow
    frequency: 'PT15M'
  }
  {
    name: 'relay-behind'
    description: 'Ticks send more work than is done: metrics reach W&B late.'
    severity: 2
    query: behindQuery
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT30M'
    frequency: 'PT15M'
  }
  {
    name: 'relay-late'
    description: 'Half of the values reach W&B more than ten minutes after Azure published them.'
    severity: 2
    query: lateQuery
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT30M'
    frequency: 'PT15M'
  }
  {
    name: 'jobs-failing'
    description: 'The jobs of an account cannot be listed, or a job fails again and again.'
    severity: 2
    query: jobsQuery
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT1H'
    frequency: 'PT15M'
  }
  {
    name: 'accounts-unhealthy'
    description: 'An account is not integrated; GET /api/status has cause and remedy.'
    severity: 2
    query: unhealthyQuery
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT2H'
    frequency: 'PT1H'
  }
  {
    name: 'poison-messages'
    description: 'Work was set aside after it had failed for good.'
    severity: 2
    query: poisonQuery
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT1H'
    frequency: 'PT15M'
  }
  {
    name: 'key-near-expiry'
    description: 'The W&B key ends soon, or its newest version cannot be used.'
    severity: 2
    query: keyQuery
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT2H'
    frequency: 'PT1H'
  }
]
var receivers = [for (email, index) in emails: {
  name: 'mail-${index}'
  emailAddress: email
  useCommonAlertSchema: true
}]

module actionGroup 'br/public:avm/res/insights/action-group:0.8.0' = {
  name: '${deployment().name}-group'
  params: {
    name: actionGroupName
    groupShortName: 'wandb-relay'
    emailReceivers: receivers
    tags: tags
    enableTelemetry: false
  }
}

module queryRules 'br/public:avm/res/insights/scheduled-query-rule:0.6.0' = [for rule in rules: {
  name: '${deployment().name}-${rule.name}'
  params: {
    name: '${actionGroupName}-${rule.name}'
    location: location
    tags: tags
    alertDisplayName: 'W&B relay: ${rule.name}'
    alertDescription: '${rule.description} docs/troubleshooting.md names causes and remedies.'
    severity: rule.severity
    scopes: [
      workspaceId
    ]
    evaluationFrequency: rule.frequency
    windowSize: rule.window
    criterias: {
      allOf: [
        {
          query: rule.query
          timeAggregation: 'Count'
          operator: rule.operator
          threshold: rule.threshold
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    autoMitigate: true
    // The tables of a new workspace are empty and may not be known yet.
    skipQueryValidation: true
    actions: {
      actionGroupResourceIds: [
        actionGroup.outputs.resourceId
      ]
    }
    enableTelemetry: false
  }
}]

output actionGroupId string = actionGroup.outputs.resourceId
