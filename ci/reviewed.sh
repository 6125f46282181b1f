#!/usr/bin/env bash
# Finds the digest to apply: the input, or the digest in the comment of the merged pull request.
set -euo pipefail
# shellcheck source=ci/common.sh
. "${GITHUB_ACTION_PATH:?}/ci/common.sh"

case "$DIGEST" in
  reviewed) reviewed="$("$INTERPRETER" -I "$action/ci/comment.py" digest "$GITHUB_SHA")" ;;
  *) reviewed="$DIGEST" ;;
esac
# After the digest stands the commit that the plan compared with: a branch means another one after the merge.
[[ "$reviewed" =~ ^(sha256:[0-9a-f]{64})( ([0-9a-f]{40,64}))?$ ]] ||
  { echo "::error::digest is sha256:… or reviewed"; exit 64; }
output digest "${BASH_REMATCH[1]}"
output since "${BASH_REMATCH[3]:-}"
echo "the reviewed plan is $reviewed"
