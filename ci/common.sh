# shellcheck shell=bash disable=SC2034
# Sourced by every step before anything else. A checkout is data: no file of it is executed or imported.
#
# So a step works in a private folder, and the variables that make bash or Python load something more are
# gone. Programs come from absolute folders outside of the checkout. Inputs are data, too: they arrive in
# environment variables, and nothing here evaluates them.
action="${GITHUB_ACTION_PATH:?}"

unset -v BASH_ENV ENV CDPATH GLOBIGNORE "${!PYTHON@}"
# Credentials of the runner itself. No step uses them.
unset -v ACTIONS_ID_TOKEN_REQUEST_TOKEN ACTIONS_ID_TOKEN_REQUEST_URL ACTIONS_RUNTIME_TOKEN

# Prints the folders of PATH, less those that are relative or in the checkout.
trusted_path() {
  local checkout folder folders real trusted=""
  checkout="$(cd "${GITHUB_WORKSPACE:?}" && pwd -P)"
  IFS=: read -r -a folders <<< "$PATH"
  for folder in "${folders[@]}"; do
    [[ "$folder" == /* ]] || continue
    real="$(cd "$folder" 2> /dev/null && pwd -P)" || continue
    [[ "$real/" == "$checkout/"* ]] || trusted+="${trusted:+:}$folder"
  done
  printf '%s' "$trusted"
}
PATH="$(trusted_path)"
export PATH

work="$(mktemp -d "${RUNNER_TEMP:?}/reconcile-XXXXXX")"
cd "$work" || exit

# A text that nobody could know before.
random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# output NAME VALUE: an output of this step. No value can end early and begin another output.
output() {
  local mark
  mark="end-$(random)"
  printf '%s<<%s\n%s\n%s\n' "$1" "$mark" "$2" "$mark" >> "$GITHUB_OUTPUT"
}

# Copies its input into the log, where no line of it is a command to the runner.
show() {
  local mark
  mark="$(random)"
  echo "::stop-commands::$mark"
  cat
  printf '\n::%s::\n' "$mark"
}

# run_reconcile FILE ARGUMENT...: runs the program in the project's folder. Its output goes to FILE, its
# messages go to FILE.errors and into the log.
run_reconcile() {
  local file="$1"
  shift
  (cd "$project" && exec "$INTERPRETER" -I -m reconciler "${selection[@]}" "$@") 2>&1 > "$file" |
    tee "$file.errors" | show
}

# In a container, a checkout may belong to another user than the one who runs the steps. The workflow names
# the folder, so its configuration is taken by name, whoever owns it.
export RECONCILE_CONFIG="${RECONCILE_CONFIG:-reconcile.yaml}"

case "${PROJECT:=.}" in
  /*) project="$PROJECT" ;;
  *) project="$GITHUB_WORKSPACE/$PROJECT" ;;
esac

selection=()
[ -z "${ENVIRONMENT:-}" ] || selection+=(--env "$ENVIRONMENT")

# The workflow says where the state is. That allows the address, whoever wrote reconcile.yaml, and a
# configuration with `state: {url_env: STATE_URL}` takes it from here.
if [ -n "${STATE_ADDRESS:-}" ]; then
  export STATE_URL="$STATE_ADDRESS"
  export RECONCILE_ALLOWED_STATES="${RECONCILE_ALLOWED_STATES:+$RECONCILE_ALLOWED_STATES }$STATE_ADDRESS"
fi

# require_state: a state that reconcile.yaml does not name would be ignored, and every profile planned as new.
require_state() {
  [ -n "${STATE_ADDRESS:-}" ] || return 0
  run_reconcile "$work/state" state path || return 0 # the next command says why
  case "$(cat "$work/state")" in
    /* | [A-Z]:*)
      echo "::error::state-url is given, but the state of this environment is a file;" \
        "reconcile.yaml needs state: {url_env: STATE_URL}"
      return 64
      ;;
  esac
}

options=()
while IFS= read -r option; do
  option="${option#"${option%%[![:space:]]*}"}"
  option="${option%"${option##*[![:space:]]}"}"
  [ -z "$option" ] || options+=("$option")
done <<< "${OPTIONS:-}"
[ -z "${SINCE:-}" ] || options+=("--since=$SINCE")

case "${MASK:-}" in
  true) options+=(--mask) ;;
  false) options+=(--no-mask) ;;
  "") ;;
  *) echo "::error::mask is true, false or empty"; exit 64 ;;
esac
