#!/usr/bin/env bash
# Tells the story of the main job on the embedded emulator, in a temporary copy of the example profiles. It ends with
# an error if a result differs from the text. Nothing of it stays.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/project"
cp -R "$here/profiles" "$here/reconcile.yaml" "$work/project"
cd "$work/project"
unset "${!RECONCILE_@}"
export RECONCILE_STATE_DIR="$work/state" RECONCILE_CACHE_DIR="$work/cache"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi
number=0
chapter() { number=$((number + 1)); printf '\n%s%s. %s%s\n' "$bold" "$number" "$1" "$plain"; }
say() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
run() { printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"; "$@"; }
# Runs a command and checks its exit code.
ends() {
    local expected=$1 code=0
    shift
    run "$@" || code=$?
    if [ "$code" -ne "$expected" ]; then
        printf 'demo: expected exit code %s, got %s\n' "$expected" "$code" >&2
        exit 1
    fi
}
# Edits a file with sed, and shows the edit.
edit() {
    local file=$1
    shift
    sed "$@" "$file" > "$work/edited"
    printf '\n%s$ edit %s%s\n' "$bold" "$file" "$plain"
    diff "$file" "$work/edited" | sed -n 's/^< /    - /p; s/^> /    + /p' || true
    cp "$work/edited" "$file"
}
# Checks the request bodies of the present plan.
exactly() {
    local got
    got=$(reconcile plan --format json |
        python3 -c 'import json, sys; print(json.dumps([r.get("body") for c in json.load(sys.stdin)["changes"] for r in c["requests"]]))')
    if [ "$got" != "$1" ]; then
        printf 'demo: expected the bodies %s, got %s\n' "$1" "$got" >&2
        exit 1
    fi
}

say "Five users of an app are declared below profiles/: two for tests, three of the staff."
say "An emulator stands in for Adapty's API. No data leaves this machine."

chapter "The files are checked, offline and without a key"
run reconcile validate

chapter "A plan shows what would change. It changes nothing"
ends 2 reconcile plan --detailed-exitcode

chapter "Apply makes these changes"
run reconcile apply --auto-approve
say "Planned again, nothing is left to do:"
ends 0 reconcile plan --detailed-exitcode

chapter "A field is edited: one PATCH with this field"
edit profiles/qa/sam.yaml 's/first_name: Sam/first_name: Samuel/'
ends 2 reconcile plan --detailed-exitcode --show-requests
exactly '[{"first_name": "Samuel", "ip_country": "DE"}]'
say "A declared country goes along, because the API would otherwise guess one from the sender's address."
run reconcile apply --auto-approve

chapter "A line is removed: the field is cleared with null"
edit profiles/staff/support.yaml '/^email: ana@example.com$/d'
ends 2 reconcile plan --detailed-exitcode --show-requests
exactly '[{"email": null, "ip_country": "ES"}]'
run reconcile apply --auto-approve

chapter "A custom attribute is removed: the others are left alone"
edit profiles/qa/jane.yaml '/favourite_sport/d'
ends 2 reconcile plan --detailed-exitcode --show-requests
exactly '[{"ip_country": "FR", "custom_attributes": [{"key": "favourite_sport", "value": null}]}]'
run reconcile apply --auto-approve

chapter "A test user gets premium for an hour"
edit profiles/qa/sam.yaml '$ a\
access_levels: {premium: {for: 1h}}'
ends 2 reconcile plan --detailed-exitcode --show-requests
exactly '[{"access_level_id": "premium", "expires_at": "<time of apply> + 1h"}]'
run reconcile apply --auto-approve
ends 0 reconcile plan --detailed-exitcode

chapter "A mistake is found before anything is sent"
edit profiles/qa/sam.yaml 's/first_name:/first_nmae:/'
ends 3 reconcile plan
edit profiles/qa/sam.yaml 's/first_nmae:/first_name:/'

chapter "The state remembers what the API does not return"
run reconcile state list
run reconcile state show qa-sam

chapter "The demo went as it should. Next"
cat <<'NEXT'

  reconcile init               begin in a folder of your own, with the emulator
  reconcile plan               see what would change
  reconcile apply              ask, then change it

  docs/testing.md              test users for pytest, and for other languages
  docs/ci.md                   a plan on every pull request
  docs/production.md           the way to profiles of real users
NEXT
