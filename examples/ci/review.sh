#!/usr/bin/env bash
# Reviews for any other CI system. Run `review.sh plan` on a branch, and `review.sh apply sha256:…` with the
# digest of the reviewed plan after the merge.
set -euo pipefail

case "${1:-}" in
  plan)
    reconcile validate
    code=0
    reconcile plan --detailed-exitcode --blame --markdown-out plan.md --html-out plan.html || code=$?
    case "$code" in
      0) echo "nothing to apply" ;;
      2) echo "read plan.html; post plan.md where the review is" ;;
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
