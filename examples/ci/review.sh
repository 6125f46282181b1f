#!/usr/bin/env bash
# Reviews for any other CI system. Run it in the checkout: `review.sh plan` on a branch, and
# `review.sh apply sha256:…` with the digest of the reviewed plan after the merge.
#
# Keep this script outside of the checkout. INTERPRETER is the Python in which reconcile is installed, by its
# whole path, also outside of the checkout. It is isolated (-I), so nothing is imported from the checkout.
set -euo pipefail

reconcile() { "${INTERPRETER:?}" -I -m reconciler "$@"; }

case "${1:-}" in
  plan)
    reconcile validate
    folder="$(mktemp -d)"
    code=0
    reconcile plan --detailed-exitcode --blame --markdown-out "$folder/plan.md" \
      --html-out "$folder/plan.html" || code=$?
    case "$code" in
      0) echo "nothing to apply" ;;
      2) echo "read $folder/plan.html; post $folder/plan.md where the review is" ;;
      *) exit "$code" ;;
    esac
    ;;
  apply)
    reconcile apply --auto-approve --digest "${2:?give the digest of the reviewed plan}"
    ;;
  *)
    echo "usage: $0 plan | apply sha256:…" >&2
    exit 64
    ;;
esac
