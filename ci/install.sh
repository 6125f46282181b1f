#!/usr/bin/env bash
# Installs this version into a virtual environment of its own. Every other package comes with the hash that
# requirements-ci.txt names, as a wheel, so installing runs no code of theirs.
set -euo pipefail
# shellcheck source=ci/common.sh
. "${GITHUB_ACTION_PATH:?}/ci/common.sh"

python="$(command -v python3 || command -v python)" ||
  { echo "::error::there is no Python outside of the checkout"; exit 1; }
"$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "::error::reconcile needs Python 3.11 or later"; exit 1; }

# Of pip's settings, only those count that say where packages come from and how they are reached. The hashes
# decide whether they are the right ones.
for name in "${!PIP_@}"; do
  case "$name" in
    PIP_INDEX_URL | PIP_EXTRA_INDEX_URL | PIP_FIND_LINKS | PIP_NO_INDEX | PIP_PROXY) ;;
    PIP_CERT | PIP_CLIENT_CERT | PIP_TRUSTED_HOST | PIP_DEFAULT_TIMEOUT | PIP_RETRIES) ;;
    *) unset -v "$name" ;;
  esac
done
export PIP_CONFIG_FILE=/dev/null # stops pip from reading any configuration file

"$python" -I -m venv "$work/venv"
installed="$work/venv/bin/python"
pip=("$installed" -I -m pip --disable-pip-version-check --no-input install --quiet --no-deps)
"${pip[@]}" --require-hashes --only-binary=:all: -r "$action/requirements-ci.txt" || {
  echo "::error::the dependencies cannot be installed; pip reads no configuration file here," \
    "so a mirror is given as PIP_INDEX_URL"
  exit 1
}
"${pip[@]}" --no-index --no-build-isolation "$action"

# Later steps of the workflow may call the program by its name.
mkdir "$work/bin"
printf '#!/bin/sh\nexec "%s" -I -m reconciler "$@"\n' "$installed" > "$work/bin/reconcile"
chmod 755 "$work/bin/reconcile"
"$work/bin/reconcile" --version
output python "$installed"
echo "$work/bin" >> "$GITHUB_PATH"
