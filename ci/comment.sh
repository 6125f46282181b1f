#!/usr/bin/env bash
# Keeps the comment of the plan on the pull request up to date.
set -euo pipefail
# shellcheck source=ci/common.sh
. "${GITHUB_ACTION_PATH:?}/ci/common.sh"

# shellcheck disable=SC2153 # FOLDER is the output of the step before
"$INTERPRETER" -I "$action/ci/comment.py" update "$NUMBER" "$FOLDER/plan.md"
