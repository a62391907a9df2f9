#!/bin/bash
# One node's part of a run on several nodes. All nodes run it with the same words, those of `ixt-rl run`:
#
#     NODE_RANK=0 NODES=2 HEAD=10.0.0.1 bash examples/cluster/node.sh intro/math     # and NODE_RANK=1 on the other node
#
# slurm.sh and skypilot.yaml do that; by hand, over ssh, it works as well. The first TRAIN_NODES nodes train, a rank a
# GPU; the others have Ray, for the engines of `engine.type: ray-vllm`. The first has Ray's head, too, on which no engine
# is placed. It ends when any part of it does, and the engines' nodes end after it.
#
#     NODE_RANK, NODES   this node and all of them
#     HEAD               the first node's IPv4 address
#     TRAIN_NODES        default: all
#     RANKS              of each training node; default: its GPUs
#     PORT               of the first node's launcher, default 29500; Ray's is the next one
#     READY_SECONDS      that a node waits for the others, default 600
#     IFNAME             the interface for NCCL and gloo; default: the one that leads to HEAD
#     RAY_AUTH_TOKEN     the same secret on all nodes; needed where there are engines' nodes

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
say() { echo "$(date +%T) node ${NODE_RANK:-?} ($(hostname)): $*" >&2; }
fail() {
    say "$*"
    exit 1
}

for name in NODE_RANK NODES HEAD; do
    [ -n "${!name:-}" ] || fail "\$$name is not set; the head of $0 says what it is"
done
TRAIN_NODES=${TRAIN_NODES:-$NODES} PORT=${PORT:-29500} READY_SECONDS=${READY_SECONDS:-600}
ENGINE_NODES=$((NODES - TRAIN_NODES)) RAY_PORT=$((PORT + 1))
[ "$TRAIN_NODES" -ge 1 ] && [ "$ENGINE_NODES" -ge 0 ] || fail "TRAIN_NODES=$TRAIN_NODES of NODES=$NODES: 1 to $NODES"
if [ "$NODES" -gt 1 ] && [[ $HEAD == 127.* ]] && [ "${IFNAME:-}" != lo ]; then
    fail "HEAD=$HEAD is every node itself; give the first node's address in the network that they share"
fi
if [ "$ENGINE_NODES" -gt 0 ] && [ -z "${RAY_AUTH_TOKEN:-}" ]; then
    fail "\$RAY_AUTH_TOKEN is not set: without it, whoever reaches Ray's ports could run code as you"
fi

# NCCL and gloo each guess an interface, and on nodes with several (management, InfiniBand, containers) not all guess the
# same: a hang without a message. The one that leads to HEAD is common to all.
OWN=$(ip -4 route get "$HEAD" | sed -n 's/.* src \([0-9.]*\).*/\1/p') || fail "no route to HEAD=$HEAD; it is an IPv4 address"
IFNAME=${IFNAME:-$(ip -4 -o addr show | awk -v own="$OWN" 'index($4, own "/") == 1 && !n++ { print $2 }')}
[ -n "$OWN" ] && [ -n "$IFNAME" ] || fail "no interface of this node leads to $HEAD"
export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-=$IFNAME} GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$IFNAME}
export VLLM_HOST_IP=$OWN
[ "$ENGINE_NODES" = 0 ] || export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
export RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0 # by default engines would give way to any other program

parts=() told=
# shellcheck disable=SC2329 # the traps call it
finish() { # the launcher before Ray, which its engines need to end in order
    trap - EXIT
    trap '' TERM INT
    for ((i = ${#parts[@]} - 1; i >= 0; i--)); do
        # Slurm signals all processes of a step by itself, and a launcher that is told twice leaves its ranks behind.
        [ -n "$told" ] && [ -n "${SLURM_STEP_ID:-}" ] || kill -TERM "${parts[i]}" 2>/dev/null || true
        wait "${parts[i]}" || true
    done
}
trap finish EXIT
trap 'told=1; exit 143' TERM
trap 'told=1; exit 130' INT

alive() { kill -0 "$1" 2>/dev/null; }
pause() { # a signal is heard at once, not when sleep is over
    sleep "$1" &
    wait $!
}
answers() { timeout 5 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; }
await() { # NAME PORT: until HEAD answers there
    local end=$((SECONDS + READY_SECONDS))
    until answers "$HEAD" "$2"; do
        [ $SECONDS -lt $end ] || fail "waited $READY_SECONDS s for $1 of node 0, at $HEAD:$2, in vain"
        pause 1
    done
}

if [ "$NODE_RANK" -ge "$TRAIN_NODES" ]; then
    await "Ray's head" $RAY_PORT
    ray start --address="$HEAD:$RAY_PORT" --node-ip-address="$OWN" --block &
    parts+=($!)
    say "engines may start here"
    while answers "$HEAD" $RAY_PORT; do
        alive "${parts[0]}" || fail "Ray has ended on this node"
        pause 2
    done
    say "the first node has ended"
    exit 0
fi

if [ "$ENGINE_NODES" -gt 0 ] && [ "$NODE_RANK" = 0 ]; then
    export RAY_ADDRESS=$HEAD:$RAY_PORT # where the run's pool of engines looks
    ray start --head --port=$RAY_PORT --node-ip-address="$OWN" --num-cpus=0 --num-gpus=0 --include-dashboard=false --block &
    parts+=($!)
    await "Ray's head" $RAY_PORT
    python "$here/wait_for_ray.py" "$RAY_ADDRESS" "$ENGINE_NODES" "$READY_SECONDS" || fail "the engines' nodes are not there"
fi
[ "$NODE_RANK" = 0 ] || await "the launcher" "$PORT"

RANKS=${RANKS:-$(nvidia-smi --list-gpus 2>/dev/null | wc -l)}
[ "$RANKS" -ge 1 ] || fail "RANKS is not set, and nvidia-smi lists no GPU"
say "$RANKS ranks by $IFNAME ($OWN); the first node is $HEAD:$PORT"
torchrun --nnodes="$TRAIN_NODES" --node-rank="$NODE_RANK" --nproc-per-node="$RANKS" \
    --master-addr="$HEAD" --master-port="$PORT" --rdzv-conf="timeout=$READY_SECONDS" --shutdown-timeout=120 \
    -m ixt_rl run "$@" &
train=$!
parts+=("$train")
while alive "$train"; do
    [ ${#parts[@]} = 1 ] || alive "${parts[0]}" || fail "Ray's head has ended: so does the run"
    pause 1
done
status=0
wait "$train" || status=$?
say "the launcher ended with $status"
exit "$status"
