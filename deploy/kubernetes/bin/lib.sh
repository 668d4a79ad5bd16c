# shellcheck shell=bash
# What the container's scripts share. Sourced, never run: how they reach a node. It changes nothing.
#
#   BULL_PORT       6379, the node's own port
#   BULL_HOST       127.0.0.1, where the node itself is reached
#   BULL_TLS        folder with ca.crt, node.crt, node.key; none for plain TCP
#   BULL_PASSWORDS  folder with a file for each user of the ACL, named as in deploy/acl/render (PROBE, OPERATOR, …)
#   BULL_TIMEOUT    seconds that one command may take (5)
set -euo pipefail
me=$(basename "$0")
deploy=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
passwords=${BULL_PASSWORDS:-/etc/redis-bull/passwords}
own=${BULL_HOST:-127.0.0.1}:${BULL_PORT:-6379}

say() { printf '%s: %s\n' "$me" "$*"; }
die() {
  printf '%s: %s\n' "$me" "$*" >&2
  exit 1
}

# Runs a command of a node, or those of stdin where there is none: USER HOST:PORT words… An error reply is a failure.
# Without a password's file there is no ACL.
ask() {
  local user=$1 node=$2 words
  shift 2
  words=(-e -h "${node%:*}" -p "${node##*:}")
  if [ -n "${BULL_TLS-}" ]; then words+=(--tls --cacert "$BULL_TLS/ca.crt" --cert "$BULL_TLS/node.crt" --key "$BULL_TLS/node.key"); fi
  if [ -r "$passwords/${user^^}" ]; then
    words+=(--user "$user" --no-auth-warning)
    REDISCLI_AUTH=$(<"$passwords/${user^^}") timeout "${BULL_TIMEOUT:-5}" redis-cli "${words[@]}" "$@"
  else
    timeout "${BULL_TIMEOUT:-5}" redis-cli "${words[@]}" "$@"
  fi
}
