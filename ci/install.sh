#!/usr/bin/env bash
# Installs this version into its own virtual environment, and adds it to the path of later steps.
set -euo pipefail
python -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "::error::reconcile needs Python 3.11 or later"; exit 1; }
venv="$RUNNER_TEMP/reconcile-venv"
python -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  -c "$GITHUB_ACTION_PATH/constraints.txt" "$GITHUB_ACTION_PATH"
echo "$venv/bin" >> "$GITHUB_PATH"
