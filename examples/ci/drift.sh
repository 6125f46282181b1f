#!/usr/bin/env bash
# Looks for drift from cron, on a machine that keeps nothing: the state lies in a bucket or a database. In the
# crontab, with this script and the program outside of every checkout:
#
#   17 5 * * 1-5  INTERPRETER=/opt/venv/bin/python /opt/reconcile/examples/ci/drift.sh REPOSITORY
#
# The key, STATE_URL and the credentials for reading the state are variables of a file that only this user reads;
# DRIFT_VARIABLES names it. Exit code 0: as declared; 2: it differs, and cron sends what was printed by mail.
set -euo pipefail

set -a
# shellcheck source=/dev/null
. "${DRIFT_VARIABLES:-$HOME/.config/reconcile/drift.env}"
set +a

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
git clone --quiet --depth 1 -- "${1:?give the repository}" "$folder/checkout"
cd "$folder/checkout"
"${INTERPRETER:?}" -I -m reconciler --env "${ENVIRONMENT:-production}" plan --refresh --detailed-exitcode --mask
