# shellcheck shell=bash disable=SC2034
# Sourced by the steps: turns inputs into options of the program. Inputs are data. They arrive in
# environment variables, and nothing here evaluates them.
program=(reconcile)
[ -z "${ENVIRONMENT:-}" ] || program+=(--env "$ENVIRONMENT")

options=()
while IFS= read -r option; do
  option="${option#"${option%%[![:space:]]*}"}"
  option="${option%"${option##*[![:space:]]}"}"
  [ -z "$option" ] || options+=("$option")
done <<< "${OPTIONS:-}"
[ -z "${SINCE:-}" ] || options+=("--since=$SINCE")

masking=()
case "${MASK:-}" in
  true) masking=(--mask) ;;
  false) masking=(--no-mask) ;;
  "") ;;
  *) echo "::error::mask is true, false or empty"; exit 64 ;;
esac
