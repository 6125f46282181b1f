#!/usr/bin/env bash
# What the job ends with: pending changes are what a pull request is for, and what drift is.
set -euo pipefail
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
