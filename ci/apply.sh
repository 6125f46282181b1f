#!/usr/bin/env bash
# Applies the plan with the reviewed digest, or nothing.
set -euo pipefail
# shellcheck source=ci/common.sh
. "${GITHUB_ACTION_PATH:?}/ci/common.sh"

require_state

# Indented, so that nothing in it is Markdown.
indented() { tail -n "$1" "$2" | tr '\r' ' ' | sed 's/^/    /'; }

code=0
run_reconcile "$work/log" apply "${options[@]}" --auto-approve --digest "$DIGEST" || code=$?
show < "$work/log"
output exit-code "$code"
{
  echo "### Apply: exit code $code"
  echo
  indented 200 "$work/log" # the end says how it went
  [ ! -s "$work/log.errors" ] || { echo; indented 50 "$work/log.errors"; }
} >> "$GITHUB_STEP_SUMMARY"
exit "$code"
