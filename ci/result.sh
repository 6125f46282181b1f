#!/usr/bin/env bash
# Ends the job. Pending changes are normal on a pull request, but a failure in the mode `drift`.
set -euo pipefail
# shellcheck source=ci/common.sh
. "${GITHUB_ACTION_PATH:?}/ci/common.sh"

case "$CODE" in
  0) ;;
  2)
    if [ "$MODE" = drift ]; then
      echo "::error title=drift::the API holds something else than the files ask for; see the job summary"
      exit 1
    fi
    ;;
  3) echo "::error title=reconcile::the files or the configuration are not valid"; exit 3 ;;
  *) echo "::error title=reconcile::planning ended with exit code $CODE"; exit "${CODE:-1}" ;;
esac
