#!/usr/bin/env bash
# Applies the plan with the reviewed digest, or nothing.
set -euo pipefail
# shellcheck source=ci/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

log="$(mktemp "$RUNNER_TEMP/reconcile-apply-XXXXXX")"
code=0
"${program[@]}" apply "${options[@]}" "${masking[@]}" --auto-approve --digest "$DIGEST" \
  > "$log" 2> >(tee "$log.errors" >&2) || code=$?
cat "$log"
echo "exit-code=$code" >> "$GITHUB_OUTPUT"
{
  echo "### Apply: exit code $code"
  echo
  # Indented, so that nothing in it is Markdown; the end says how it went.
  tail -n 200 "$log" | sed 's/^/    /'
  [ ! -s "$log.errors" ] || { echo; tail -n 50 "$log.errors" | sed 's/^/    /'; }
} >> "$GITHUB_STEP_SUMMARY"
exit "$code"
