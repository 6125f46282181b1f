#!/usr/bin/env bash
# Plans: writes annotations into the log, a summary for the job, and the files for comment and artifact.
# The exit code is an output, so that the last step can judge it after the comment was written.
set -euo pipefail
# shellcheck source=ci/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

folder="$(mktemp -d "$RUNNER_TEMP/reconcile-XXXXXX")"
[ "${MODE:-plan}" != drift ] || options+=(--refresh)
[ "${BLAME:-}" != true ] || options+=(--blame)

code=0
"${program[@]}" plan "${options[@]}" "${masking[@]}" --detailed-exitcode --format github \
  --links "$GITHUB_SERVER_URL/$HEAD_REPOSITORY/blob/$HEAD_COMMIT/" \
  --out "$folder/reviewed.plan" --json-out "$folder/plan.json" \
  --markdown-out "$folder/plan.md" --html-out "$folder/plan.html" || code=$?

digest=""
since=""
if [ -f "$folder/plan.json" ]; then
  read -r digest since <<< "$(python -c 'import json, sys; plan = json.load(open(sys.argv[1]))
print(plan["digest"], plan.get("scope", {}).get("since", ""))' "$folder/plan.json")"
fi
{
  echo "exit-code=$code"
  echo "folder=$folder"
  echo "digest=$digest"
  echo "since=$since"
  if [ "$code" = 2 ]; then echo "changes=true"; else echo "changes=false"; fi
} >> "$GITHUB_OUTPUT"
if [ -f "$folder/plan.md" ]; then
  cat "$folder/plan.md" >> "$GITHUB_STEP_SUMMARY"
fi
