#!/usr/bin/env bash
# Plays the main job from end to end, on the embedded emulator, in a temporary copy of the example
# profiles. It ends with an error if a result differs from the text.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$here/profiles" "$here/reconcile.yaml" "$work"
cd "$work"
unset "${!RECONCILE_@}"

step() { printf '\n=== %s\n' "$1"; }
run() { printf '$ %s\n' "$*"; "$@"; }
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
# Prints the request bodies of the present plan on one line.
bodies() {
    reconcile plan --format json |
        python3 -c 'import json, sys; print(json.dumps([r.get("body") for c in json.load(sys.stdin)["changes"] for r in c["requests"]]))'
}
# Checks the request bodies of the present plan.
exactly() {
    local got
    got=$(bodies)
    if [ "$got" != "$1" ]; then
        printf 'demo: expected the bodies %s, got %s\n' "$1" "$got" >&2
        exit 1
    fi
}

step "the files are valid, offline and without a key"
run reconcile validate

step "the plan: what apply would change"
ends 2 reconcile plan --detailed-exitcode

step "apply it"
run reconcile apply --auto-approve

step "the second plan is empty"
ends 0 reconcile plan --detailed-exitcode

step "a changed field takes one member in one PATCH, beside the declared country"
sed -i.bak 's/first_name: Sam/first_name: Samuel/' profiles/qa/sam.yaml && rm profiles/qa/sam.yaml.bak
ends 2 reconcile plan --detailed-exitcode --show-requests
exactly '[{"first_name": "Samuel", "ip_country": "DE"}]'

step "a cleared field is sent as null"
run reconcile apply --auto-approve
sed -i.bak '/^email: ana@example.com$/d' profiles/staff/support.yaml && rm profiles/staff/support.yaml.bak
ends 2 reconcile plan --detailed-exitcode --show-requests
exactly '[{"email": null, "ip_country": "ES"}]'

step "a deleted custom attribute is named, the others are not"
run reconcile apply --auto-approve
sed -i.bak '/favourite_sport/d' profiles/qa/jane.yaml && rm profiles/qa/jane.yaml.bak
ends 2 reconcile plan --detailed-exitcode --show-requests
exactly '[{"ip_country": "FR", "custom_attributes": [{"key": "favourite_sport", "value": null}]}]'

step "applied, the plan is empty again"
run reconcile apply --auto-approve
ends 0 reconcile plan --detailed-exitcode
run reconcile state list

step "a test user gets premium for an hour, by a grant"
printf 'access_levels: {premium: {for: 1h}}\n' >> profiles/qa/sam.yaml
ends 2 reconcile plan --detailed-exitcode --show-requests
exactly '[{"access_level_id": "premium", "expires_at": "<time of apply> + 1h"}]'
run reconcile apply --auto-approve
ends 0 reconcile plan --detailed-exitcode

printf '\nThe demo went as it should.\n'
