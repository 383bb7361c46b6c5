#!/bin/sh
# Connects Event Grid to the deployed functions; run by azd after each deployment, and by hand to
# repair: azd hooks run postdeploy
#
# Event subscriptions are made here and not in Bicep: Event Grid refuses an endpoint whose code is
# not deployed yet. They are put one after another, since two at once on one topic conflict. A put
# of what is there changes nothing; one that stays Failed is deleted and made anew.
# Reads the outputs of infra/main.bicep from the environment. postdeploy.ps1 does the same.
set -eu

: "${FUNCTION_APP_ID:?run azd provision first}"
: "${STORAGE_ACCOUNT_ID:?run azd provision first}"
: "${DEAD_LETTER_CONTAINER:?run azd provision first}"
: "${ACCOUNT_TOPIC_IDS:?run azd provision first}"
: "${VAULT_TOPIC_IDS:?run azd provision first}"
: "${WANDB_SECRET_NAMES:?run azd provision first}"
: "${EVENT_SUBSCRIPTION_SUFFIX:?run azd provision first}"

here=$(cd "$(dirname "$0")" && pwd)
pause=${POLL_SECONDS:-10}
polls=${POLL_TIMES:-60}
event_grid_api=2025-02-15
web_api=2025-03-01
body=$(mktemp)
said=$(mktemp)
trap 'rm -f "$body" "$said"' EXIT

if ! command -v az >/dev/null; then
  echo "The Azure CLI (az) is needed and was not found." >&2
  exit 1
fi

# Prints the provisioning state of what is at $1, or Missing. What az prints as a warning is no state.
state_of() {
  if ! az rest --method get --url "$1" --query properties.provisioningState --output tsv 2>"$said"; then
    case $(cat "$said") in
      *NotFound* | *"Not Found"*) echo Missing ;;
      *)
        cat "$said" >&2
        return 1
        ;;
    esac
  fi
}

# Waits until what is at $1 is in none of the states between; prints the state.
settled() {
  left=$polls
  while :; do
    state=$(state_of "$1") || return 1
    case $state in
      Creating | Updating | Deleting | AwaitingManualAction) ;;
      *)
        echo "$state"
        return 0
        ;;
    esac
    left=$((left - 1))
    if [ "$left" -le 0 ]; then
      echo "$state"
      return 0
    fi
    sleep "$pause"
  done
}

wait_for_function() {
  left=$polls
  until az rest --method get --url "$FUNCTION_APP_ID/functions/$1?api-version=$web_api" \
    --output none 2>/dev/null; do
    left=$((left - 1))
    if [ "$left" -le 0 ]; then
      echo "The function $1 is not there: see docs/troubleshooting.md, \"Functions are missing\"." >&2
      exit 1
    fi
    echo "waiting for function $1"
    sleep "$pause"
  done
}

# Puts the event subscription described by $2.json on the system topic $1.
put() {
  url="$1/eventSubscriptions/$2-$EVENT_SUBSCRIPTION_SUFFIX?api-version=$event_grid_api"
  names=$(echo "$WANDB_SECRET_NAMES" | sed 's/  */", "/g')
  sed -e "s|@FUNCTION_APP_ID@|$FUNCTION_APP_ID|" \
    -e "s|@STORAGE_ACCOUNT_ID@|$STORAGE_ACCOUNT_ID|" \
    -e "s|@DEAD_LETTER_CONTAINER@|$DEAD_LETTER_CONTAINER|" \
    -e "s|@WANDB_SECRET_NAMES@|$names|" "$here/event-subscriptions/$2.json" >"$body"
  attempt=1
  while :; do
    state=$(settled "$url")
    if [ "$state" = Failed ] || [ "$state" = Canceled ]; then
      echo "event subscription $2 is $state: making it anew"
      az rest --method delete --url "$url" --output none
      settled "$url" >/dev/null
    fi
    az rest --method put --url "$url" --body "@$body" --output none
    state=$(settled "$url")
    if [ "$state" = Succeeded ]; then
      echo "event subscription $2 on ${1##*/}: ready"
      return 0
    fi
    if [ "$attempt" -ge 3 ]; then
      echo "Event subscription $2 on $1 is $state after $attempt attempts:" \
        "see docs/troubleshooting.md, \"Events do not arrive\"." >&2
      exit 1
    fi
    attempt=$((attempt + 1))
    sleep "$pause"
  done
}

wait_for_function account_event
wait_for_function vault_event
for topic in $ACCOUNT_TOPIC_IDS; do
  put "$topic" accounts
done
for topic in $VAULT_TOPIC_IDS; do
  put "$topic" secrets
  put "$topic" policies
done
echo "Next: put the W&B key into the vault (docs/deploy.md, \"The key\") and look at ${FUNCTION_APP_URL:-the app}/api/health."
