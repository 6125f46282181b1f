#!/usr/bin/env bash
# Plans: writes annotations into the log, a summary for the job, and the files for comment and artifact.
# The exit code is an output, so that the last step can judge it after the comment was written.
set -euo pipefail
# shellcheck source=ci/common.sh
. "${GITHUB_ACTION_PATH:?}/ci/common.sh"

require_state

folder="$work/plan"
mkdir "$folder"
[ "${MODE:-plan}" != drift ] || options+=(--refresh)
[ "${BLAME:-}" != true ] || options+=(--blame)

code=0
run_reconcile "$work/annotations" plan "${options[@]}" --detailed-exitcode --format github \
  --links "$GITHUB_SERVER_URL/$HEAD_REPOSITORY/blob/$HEAD_COMMIT/" \
  --out "$folder/reviewed.plan" --json-out "$folder/plan.json" \
  --markdown-out "$folder/plan.md" --html-out "$folder/plan.html" || code=$?
cat "$work/annotations"

digest=""
since=""
if [ -f "$folder/plan.json" ]; then
  read -r digest since <<< "$("$INTERPRETER" -I -c 'import json, sys; plan = json.load(open(sys.argv[1]))
print(plan["digest"], plan.get("scope", {}).get("since", ""))' "$folder/plan.json")"
fi
output exit-code "$code"
output folder "$folder"
output digest "$digest"
output since "$since"
output changes "$([ "$code" = 2 ] && echo true || echo false)"
if [ -f "$folder/plan.md" ]; then
  cat "$folder/plan.md" >> "$GITHUB_STEP_SUMMARY"
fi
