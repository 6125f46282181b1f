#!/usr/bin/env bash
# Finds the digest to apply: the input, or the digest in the comment of the merged pull request.
set -euo pipefail
case "$DIGEST" in
  sha256:*) found="$DIGEST" ;;
  reviewed) found="$(python "$(dirname "${BASH_SOURCE[0]}")/comment.py" digest "$GITHUB_SHA")" ;;
  *) echo "::error::digest is sha256:… or reviewed"; exit 64 ;;
esac
# After the digest stands the commit that the plan compared with: a branch means another one after the merge.
read -r digest since <<< "$found"
{
  echo "digest=$digest"
  echo "since=${since:-}"
} >> "$GITHUB_OUTPUT"
echo "the reviewed plan is $found"
