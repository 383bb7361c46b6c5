# Connects Event Grid to the deployed functions; run by azd after each deployment, and by hand to
# repair: azd hooks run postdeploy
#
# The same as postdeploy.sh, for Windows; that file has the reasons.
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

foreach ($name in 'FUNCTION_APP_ID', 'STORAGE_ACCOUNT_ID', 'DEAD_LETTER_CONTAINER', 'ACCOUNT_TOPIC_IDS',
    'VAULT_TOPIC_IDS', 'WANDB_SECRET_NAMES', 'EVENT_SUBSCRIPTION_SUFFIX') {
    if (-not [Environment]::GetEnvironmentVariable($name)) {
        throw "$name is not set: run azd provision first"
    }
}
if (-not (Get-Command az -ErrorAction SilentlyContinue)) {
    throw 'The Azure CLI (az) is needed and was not found.'
}

$pause = 10
if ($env:POLL_SECONDS) { $pause = [int]$env:POLL_SECONDS }
$polls = 60
if ($env:POLL_TIMES) { $polls = [int]$env:POLL_TIMES }
$eventGridApi = '2025-02-15'
$webApi = '2025-03-01'

# Returns the output of az; throws what it says when it fails. What az prints as a warning is no error.
function Invoke-Az([string[]] $arguments) {
    $ErrorActionPreference = 'Continue'
    $lines = & az @arguments 2>&1
    $code = $LASTEXITCODE
    if ($code -ne 0) { throw ($lines | Out-String) }
    return ($lines | Where-Object { $_ -isnot [System.Management.Automation.ErrorRecord] } | Out-String).Trim()
}

function Get-State([string] $url) {
    try {
        return Invoke-Az @('rest', '--method', 'get', '--url', $url, '--query', 'properties.provisioningState', '--output', 'tsv')
    }
    catch {
        if ("$_" -match 'NotFound|Not Found') { return 'Missing' }
        throw
    }
}

function Wait-Settled([string] $url) {
    for ($left = $polls; ; $left--) {
        $state = Get-State $url
        if (($state -notin 'Creating', 'Updating', 'Deleting', 'AwaitingManualAction') -or ($left -le 1)) { return $state }
        Start-Sleep -Seconds $pause
    }
}

function Wait-Function([string] $function) {
    for ($left = $polls; ; $left--) {
        try {
            Invoke-Az @('rest', '--method', 'get', '--url', "$env:FUNCTION_APP_ID/functions/${function}?api-version=$webApi", '--output', 'none') | Out-Null
            return
        }
        catch {
            if ($left -le 1) {
                throw "The function $function is not there: see docs/troubleshooting.md, 'Functions are missing'."
            }
        }
        Write-Host "waiting for function $function"
        Start-Sleep -Seconds $pause
    }
}

function Set-EventSubscription([string] $topic, [string] $name) {
    $url = "$topic/eventSubscriptions/$name-$($env:EVENT_SUBSCRIPTION_SUFFIX)?api-version=$eventGridApi"
    $names = ($env:WANDB_SECRET_NAMES -split ' +') -join '", "'
    $text = (Get-Content -Raw -Path (Join-Path $PSScriptRoot "event-subscriptions/$name.json"))
    $text = $text.Replace('@FUNCTION_APP_ID@', $env:FUNCTION_APP_ID).Replace('@STORAGE_ACCOUNT_ID@', $env:STORAGE_ACCOUNT_ID)
    $text = $text.Replace('@DEAD_LETTER_CONTAINER@', $env:DEAD_LETTER_CONTAINER).Replace('@WANDB_SECRET_NAMES@', $names)
    $body = New-TemporaryFile
    try {
        [System.IO.File]::WriteAllText($body.FullName, $text)
        for ($attempt = 1; ; $attempt++) {
            $state = Wait-Settled $url
            if ($state -in 'Failed', 'Canceled') {
                Write-Host "event subscription $name is ${state}: making it anew"
                Invoke-Az @('rest', '--method', 'delete', '--url', $url, '--output', 'none') | Out-Null
                Wait-Settled $url | Out-Null
            }
            Invoke-Az @('rest', '--method', 'put', '--url', $url, '--body', "@$($body.FullName)", '--output', 'none') | Out-Null
            $state = Wait-Settled $url
            if ($state -eq 'Succeeded') {
                Write-Host "event subscription $name on $(($topic -split '/')[-1]): ready"
                return
            }
            if ($attempt -ge 3) {
                throw "Event subscription $name on $topic is $state after $attempt attempts: see docs/troubleshooting.md, 'Events do not arrive'."
            }
            Start-Sleep -Seconds $pause
        }
    }
    finally {
        Remove-Item -Path $body.FullName
    }
}

Wait-Function 'account_event'
Wait-Function 'vault_event'
foreach ($topic in ($env:ACCOUNT_TOPIC_IDS -split ' +')) {
    Set-EventSubscription $topic 'accounts'
}
foreach ($topic in ($env:VAULT_TOPIC_IDS -split ' +')) {
    Set-EventSubscription $topic 'secrets'
    Set-EventSubscription $topic 'policies'
}
Write-Host "Next: put the W&B key into the vault (docs/deploy.md, 'The key') and look at $env:FUNCTION_APP_URL/api/health."
