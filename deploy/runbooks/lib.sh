# shellcheck shell=bash
# What the runbooks share. Sourced, never run: the command line, how a node is reached, the view of the cluster, the
# placement file. It never changes anything by itself.
#
# Where the cluster is comes from the environment, or from the file of --env (shell variables):
#   BULL_NODES      "host:port host:port …", every node; addresses, or names that resolve
#   BULL_USER       user of the ACL (operator); BULL_PASSWORD its password, by REDISCLI_AUTH, never on a command line
#   BULL_TLS_CA, BULL_TLS_CERT, BULL_TLS_KEY     files, for TLS
#   BULL_PLACEMENT  the placement file (deploy/placement)
#   BULL_TIMEOUT    seconds that one command may take (60)
#   BULL_PATIENCE   seconds that a state may take to come about (60; a full copy of a node or its start 600)
#   BULL_RESTART    the command that stops {node} (HOST:PORT) and starts it anew, or starts it where it is down; runs on this
#                   host: ssh and systemctl, kubectl delete pod, scripts/cluster restart
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
me=$(basename "$0")
dry=no
yes=no
args=()

say() { printf '%s\n' "$*"; }
warn() { printf '%s: %s\n' "$me" "$*" >&2; }
die() {
  warn "$*"
  exit 1
}

# The head of the script is its manual.
manual() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

# Takes --env, --dry-run, --yes and --help; what is left goes to `args`.
common() {
  while [ $# -gt 0 ]; do
    case $1 in
      --env)
        [ -r "${2-}" ] || die "--env: ${2-} cannot be read"
        # shellcheck disable=SC1090 # the operator's file
        . "$2"
        shift ;;
      --dry-run) dry=yes ;;
      --yes) yes=yes ;;
      --help)
        manual
        exit 0 ;;
      *) args+=("$1") ;;
    esac
    shift
  done
  command -v redis-cli >/dev/null || die "redis-cli is missing: install the package redis-tools"
  [ -n "${BULL_NODES-}" ] || die "BULL_NODES is not set: name the nodes, or give --env FILE"
  placement=${BULL_PLACEMENT:-$home/deploy/placement}
  # Read by redis-cli in place of a password on the command line.
  if [ -n "${BULL_PASSWORD-}" ]; then export REDISCLI_AUTH=$BULL_PASSWORD; fi
  cli_options=()
  if [ -n "${BULL_USER-}" ]; then cli_options+=(--user "$BULL_USER"); fi
  if [ -n "${BULL_TLS_CA-}" ]; then cli_options+=(--tls --cacert "$BULL_TLS_CA"); fi
  if [ -n "${BULL_TLS_CERT-}" ]; then cli_options+=(--cert "$BULL_TLS_CERT" --key "${BULL_TLS_KEY:?$me: BULL_TLS_KEY is not set}"); fi
}

# A question before something is destroyed or interrupted. Only "yes" is a yes.
confirm() {
  local answer
  if [ $dry = yes ]; then
    say "would ask: $*"
    return
  fi
  [ $yes = no ] || return 0
  [ -t 0 ] || die "$* Say --yes where nobody can be asked"
  read -r -p "$* Type yes: " answer
  [ "$answer" = yes ] || die "not confirmed, nothing was done"
}

# Runs a command of a node: HOST:PORT words… An error reply is a failure.
at() {
  local node=$1
  shift
  timeout "${BULL_TIMEOUT:-60}" redis-cli -e -h "${node%:*}" -p "${node##*:}" "${cli_options[@]}" "$@"
}

# The same, or what would be done.
act() {
  if [ $dry = yes ]; then
    say "would run on $1: ${*:2}"
    return
  fi
  local reply
  # Not the whole command: a word of it may be a secret.
  reply=$(at "$@" 2>&1) || die "$1: $2 ${3-}: $reply"
}

# Sends the commands of stdin, one a line, in one connection; every reply must be OK.
act_each() {
  local node=$1 wrong commands
  commands=$(cat)
  [ -n "$commands" ] || return 0
  if [ $dry = yes ]; then
    say "would run on $node: $(wc -l <<<"$commands") commands such as: $(head -n 1 <<<"$commands")"
    return
  fi
  wrong=$(at "$node" <<<"$commands" | grep -vx -e OK -e '' || true)
  [ -z "$wrong" ] || die "$node: $(head -n 1 <<<"$wrong")"
}

answers() { [ "$(at "$1" PING 2>/dev/null)" = PONG ]; }

# A node that answers, the first of BULL_NODES.
seed() {
  local node
  for node in $BULL_NODES; do
    node=${node%%/*}
    if answers "$node"; then
      printf '%s\n' "$node"
      return
    fi
  done
  die "none of the nodes answers: $BULL_NODES"
}

# Waits until a command holds: TEXT command words…
await() {
  local what=$1 deadline=$((SECONDS + ${BULL_PATIENCE:-60}))
  shift
  [ $dry = no ] || return 0
  until "$@" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || die "$what: not within ${BULL_PATIENCE:-60} s"
    sleep 0.2
  done
}

# The cluster as one node sees it, a row a node: id address role primary's-id state slots (ranges with commas, - for none).
# state is up, or fail where that node is marked or suspected.
view() {
  at "$1" CLUSTER NODES | awk '
    $3 ~ /handshake|noaddr/ { next }
    {
      addr = $2; sub(/@.*/, "", addr)
      role = $3 ~ /master/ ? "primary" : "replica"
      state = $3 ~ /fail/ ? "fail" : "up"
      slots = ""
      for (i = 9; i <= NF; i++) if ($i !~ /^\[/) slots = slots (slots == "" ? "" : ",") $i
      print $1, addr, role, ($4 == "-" ? "-" : $4), state, (slots == "" ? "-" : slots)
    }'
}

# Rows of a view by column: `rows VIEW role primary`; columns id addr role primary state.
rows() {
  awk -v column="$2" -v value="$3" 'BEGIN { at["id"] = 1; at["addr"] = 2; at["role"] = 3; at["primary"] = 4; at["state"] = 5 }
    $at[column] == value' <<<"$1"
}

# A number or word of INFO: HOST:PORT SECTION NAME.
info_of() { at "$1" INFO "$2" | tr -d '\r' | sed -n "s/^$3://p"; }

address_of() { awk -v id="$2" '$1 == id { print $2 }' <<<"$1"; }
id_of() { awk -v addr="$2" '$2 == addr { print $1 }' <<<"$1"; }

# Slots of a view that are served, a line each: slot id.
owners() {
  awk '$3 == "primary" && $6 != "-" { n = split($6, parts, ","); for (i = 1; i <= n; i++) { m = split(parts[i], ends, "-"); for (s = ends[1]; s <= ends[m]; s++) print s, $1 } }' <<<"$1"
}

# --- nodes that come in, follow and lead ---

# MEET wants addresses, not names.
ip_of() {
  local host=${1%:*} ip
  ip=$(getent ahostsv4 "$host" | awk 'NR == 1 { print $1 }') || ip=""
  [ -n "$ip" ] || die "$host does not resolve"
  printf '%s\n' "$ip"
}

# Every node that is up knows the node with that id: SEED ID.
all_know() {
  local one
  while read -r _ one _; do
    [ -n "$(rows "$(view "$one")" id "$2")" ] || return 1
  done < <(rows "$(view "$1")" state up)
}

# Brings an empty node into the cluster of another, one at a time. Again without harm: SEED NODE.
join() {
  local seed=$1 node=$2 id
  await "$node answers" answers "$node"
  [ "$(info_of "$node" cluster cluster_enabled)" = 1 ] || die "$node is not in cluster mode"
  id=$(at "$node" CLUSTER MYID)
  if [ -n "$(rows "$(view "$seed")" id "$id")" ]; then return 0; fi
  [ "$(at "$node" DBSIZE)" = 0 ] || die "$node has keys: a node that comes in must be empty"
  [ "$(view "$node" | wc -l)" = 1 ] || die "$node is of another cluster"
  act "$seed" CLUSTER MEET "$(ip_of "$node")" "${node##*:}"
  await "every node knows $node" all_know "$seed" "$id"
}

follows() { [ "$(info_of "$1" replication master_link_status)" = up ]; }

replicates() { at "$1" CLUSTER REPLICATE "$2"; }
known_as_replica() { [ "$(rows "$(view "$1")" id "$2" | awk '{ print $3, $4 }')" = "replica $3" ]; }

# Makes a node a replica, and waits until it has all of its primary: SEED NODE PRIMARY'S-ID.
follow() {
  local seed=$1 node=$2 primary=$3 id
  if [ $dry = yes ]; then
    say "would make $node a replica of $primary"
    return
  fi
  id=$(at "$node" CLUSTER MYID)
  await "$node becomes a replica" replicates "$node" "$primary" >/dev/null
  await "all know that $node is a replica" known_as_replica "$seed" "$id" "$primary"
  BULL_PATIENCE=${BULL_PATIENCE:-600} await "$node has all of its primary" follows "$node"
}

# All nodes that are up tell the same roles as this one: gossip takes a moment after each change.
agreed() {
  local story one
  story=$(view "$1" | awk '$5 == "up" { print $1, $3, $4 }' | sort)
  while read -r _ one _; do
    [ "$(view "$one" | awk '$5 == "up" { print $1, $3, $4 }' | sort)" = "$story" ] || return 1
  done < <(rows "$(view "$1")" state up)
}

leads() { [ "$(at "$1" ROLE | head -n 1)" = master ]; }

# The replica of a primary that has most of its writes and answers: VIEW PRIMARY'S-ID.
best_replica() {
  local one
  while read -r _ one _; do
    if answers "$one"; then printf '%s %s\n' "$(info_of "$one" replication slave_repl_offset)" "$one"; fi
  done < <(rows "$1" primary "$2" | awk '$5 == "up"') | sort -rn | awk 'NR == 1 { print $2 }'
}

# The cluster is up as this node sees it. One that came in a moment ago has not heard of all slots and answers CLUSTERDOWN.
sees_it_up() { [[ $(at "$1" CLUSTER INFO) == *cluster_state:ok* ]]; }

# Every node of BULL_NODES answers, sees all up, serves all slots; replicas follow.
whole() {
  local one info
  for one in $BULL_NODES; do
    one=${one%%/*}
    info=$(at "$one" CLUSTER INFO) || return 1
    [[ $info == *cluster_state:ok* && $info == *cluster_slots_ok:16384* ]] || return 1
    [ -z "$(rows "$(view "$one")" state fail)" ] || return 1
    leads "$one" || follows "$one" || return 1
    tells_clients "$one" || return 1
  done
  agreed "$one"
}

# CLUSTER SLOTS of that node, which clients read, names all that serve or follow: a replica is named a moment later than
# CLUSTER NODES knows it, when the node has heard from it.
tells_clients() {
  local told serving
  told=$(at "$1" CLUSTER SLOTS | grep -oxE '[0-9a-f]{40}' | sort -u | wc -l)
  serving=$(view "$1" | awk '$6 != "-" { serves[$1] } $3 == "replica" { of[$1] = $4 } END { for (id in of) if (of[id] in serves) n++; print n + length(serves) }')
  [ "$told" = "$serving" ]
}

# Another process than before answers: NODE RUN-ID.
anew() {
  local after
  after=$(info_of "$1" server run_id) && [ -n "$after" ] && [ "$after" != "$2" ] && answers "$1"
}

# Starts a node anew by BULL_RESTART and waits until it is another process that answers: NODE.
restart() {
  local node=$1 before
  [ -n "${BULL_RESTART-}" ] || die "BULL_RESTART is not set: the command that starts {node} anew, by ssh, systemctl or kubectl"
  if [ $dry = yes ]; then
    say "would run: ${BULL_RESTART//\{node\}/$node}"
    return
  fi
  before=$(info_of "$node" server run_id 2>/dev/null) || before=""
  bash -c "${BULL_RESTART//\{node\}/$node}" || die "$node: BULL_RESTART failed"
  BULL_PATIENCE=${BULL_PATIENCE:-600} await "$node is up again" anew "$node" "$before"
}

# Runs another runbook for the same cluster: what this one was told or has asked for holds there too.
runbook() {
  local name=$1 word=--yes
  shift
  [ $dry = no ] || word=--dry-run
  export BULL_NODES BULL_USER BULL_PASSWORD BULL_TLS_CA BULL_TLS_CERT BULL_TLS_KEY BULL_PLACEMENT BULL_POLICIES BULL_PROFILES BULL_TIMEOUT BULL_PATIENCE
  "$home/deploy/runbooks/$name" $word "$@"
}

# --- the placement file ---

# Checks the file once, so that all else may trust it.
check_placement() {
  [ -r "$placement" ] || die "$placement cannot be read"
  awk -v file="$placement" '
    function bad(text) { printf "%s, line %d: %s\n", file, NR, text > "/dev/stderr"; wrong = 1 }
    /^#/ || NF == 0 { next }
    $1 == "shard" && NF == 3 && $2 ~ /^[0-9]+$/ && $3 ~ /^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$/ {
      if ($2 in shard) bad("shard " $2 " is there twice")
      shard[$2] = 1
      n = split($3, parts, ",")
      for (i = 1; i <= n; i++) {
        m = split(parts[i], ends, "-")
        for (s = ends[1] + 0; s <= ends[m] + 0; s++) { if (s > 16383) { bad("no slot " s); break } if (s in slot) { bad("slot " s " is there twice"); break } slot[s] = 1; count++ }
      }
      next
    }
    $1 == "queue" && NF == 5 && $4 ~ /^[0-9]+$/ && $5 ~ /^[0-9]+$/ {
      if (!($3 in shard)) bad("queue " $2 " is on shard " $3 ", which is none of the file")
      if ($2 in queue) bad("queue " $2 " is there twice")
      if ($2 !~ /\{[^}]+\}/) bad("queue " $2 " has no hash tag: its keys would lie on several shards")
      queue[$2] = 1; weight += $4; next
    }
    { bad("neither \"shard NUMBER RANGES\" nor \"queue NAME SHARD WEIGHT CONCURRENCY\": " $0) }
    END {
      if (!wrong && count != 16384) { printf "%s: the ranges have %d slots of 16384\n", file, count > "/dev/stderr"; wrong = 1 }
      if (!wrong && weight != 100) { printf "%s: the weights sum to %d, not 100\n", file, weight > "/dev/stderr"; wrong = 1 }
      exit wrong
    }' "$placement" || die "the placement file is wrong"
}

# Shards of the file, a line each: number ranges. Queues: name shard weight concurrency.
shards() { awk '$1 == "shard" { print $2, $3 }' "$placement"; }
queues() { awk '$1 == "queue" { print $2, $3, $4, $5 }' "$placement"; }

# Queues with their slots, as the server counts them: name shard slot.
queue_slots() {
  local node=$1 name shard slot
  while read -r name shard _ _; do
    slot=$(at "$node" CLUSTER KEYSLOT "$name:meta" </dev/null)
    printf '%s %s %s\n' "$name" "$shard" "$slot"
  done < <(queues)
}

# Where every slot shall be: slot shard. Of the ranges, but for the queues' own slots. Two queues that share a slot share
# a shard, or the file cannot be met.
wanted() {
  awk '
    FNR == NR { if (($3 in at) && at[$3] != $2) { printf "slot %s: two queues want it on shards %s and %s\n", $3, at[$3], $2 > "/dev/stderr"; exit 1 } at[$3] = $2; next }
    $1 == "shard" { n = split($3, parts, ","); for (i = 1; i <= n; i++) { m = split(parts[i], ends, "-"); for (s = ends[1] + 0; s <= ends[m] + 0; s++) print s, (s in at ? at[s] : $2) } }
  ' <(queue_slots "$1") "$placement"
}

# Which node is which shard: number id, a line each. VIEW, a node to ask, and "number=id" for shards that are new.
shard_ids() {
  local seen=$1 node=$2
  shift 2
  awk -v given="$*" '
    FILENAME == ARGV[1] { queue[$3] = 1; next }
    FILENAME == ARGV[2] { owner[$1] = $2; next }
    $1 == "shard" {
      split($3, parts, "[,-]"); s = parts[1] + 0
      while (s in queue) s++
      id = owner[s]
      n = split(given, pairs, " ")
      for (i = 1; i <= n; i++) { split(pairs[i], pair, "="); if (pair[1] == $2) id = pair[2] }
      if (id == "") { printf "shard %s: nobody serves its slot %d\n", $2, s > "/dev/stderr"; exit 1 }
      if (id in taken) { printf "shards %s and %s are one node: a new shard comes in by the runbook add-shard\n", taken[id], $2 > "/dev/stderr"; exit 1 }
      taken[id] = $2
      print $2, id
    }' <(queue_slots "$node") <(owners "$seen") "$placement"
}

# `a b c d` as ranges: words for SLOTSRANGE and ADDSLOTSRANGE, from sorted numbers on stdin.
as_ranges() {
  awk 'NR == 1 { a = b = $1; next } $1 == b + 1 { b = $1; next } { print a, b; a = b = $1 } END { if (NR) print a, b }'
}
