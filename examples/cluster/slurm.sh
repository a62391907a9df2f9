#!/bin/bash
#SBATCH --job-name=ixt-rl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#
# A run on Slurm's nodes. Submit from the folder of the checkout; words after the file's name are those of `ixt-rl run`,
# and sbatch's own options come before it:
#
#     sbatch --nodes=4 examples/cluster/slurm.sh intro/math launch.strategy=zero2
#     TRAIN_NODES=1 RANKS=1 sbatch --nodes=3 examples/cluster/slurm.sh intro/math engine.type=ray-vllm \
#         engine.pool.engines=16 engine.pool.address=auto
#
# Of several nodes the first TRAIN_NODES train (default: all); the others are left to engines. The variables that
# node.sh reads (RANKS, IFNAME, PORT, READY_SECONDS) pass through. VENV is the environment to activate.
#
# Five minutes before its time is up the job gets USR1, ends the run and queues itself again; so does Slurm after a node
# failed or the job was preempted. The same command goes on from the last checkpoint. A run that fails is not queued again.

set -euo pipefail

say() { echo "slurm.sh: $*" >&2; }

cd "$SLURM_SUBMIT_DIR" # sbatch runs a copy of this file that lies elsewhere
set +u                 # some versions of `activate` read variables that are not set
# shellcheck disable=SC1091
source "${VENV:-.venv}/bin/activate"
set -u

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export NODES=${#hosts[@]}
export RANKS=${RANKS:-${SLURM_GPUS_ON_NODE:-1}}
export PORT=${PORT:-$((20000 + SLURM_JOB_ID % 5000 * 2))} # below those that systems hand out; Ray has the next one

# The batch shell is on the first node: its address is what it reaches the second one from.
address_of() { getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }'; }
if [ -z "${HEAD:-}" ]; then
    if [ -n "${IFNAME:-}" ]; then
        HEAD=$(ip -4 -o addr show dev "$IFNAME" | awk 'NR == 1 { sub("/.*", "", $4); print $4 }') || true
    elif [ "$NODES" -gt 1 ]; then
        HEAD=$(ip -4 route get "$(address_of "${hosts[1]}")" | sed -n 's/.* src \([0-9.]*\).*/\1/p') || true
    else
        HEAD=127.0.0.1
    fi
fi
if [ -z "$HEAD" ]; then
    say "the first node's address is not to be found ($(hostname), nodes ${hosts[*]}): set HEAD or IFNAME"
    exit 1
fi
export HEAD

# Whoever reaches Ray's ports can run code as you: what starts here takes only those who have this job's token.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN

[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun no longer takes sbatch's

say "job $SLURM_JOB_ID, start ${SLURM_RESTART_COUNT:-0}: $NODES nodes, the first at $HEAD:$PORT"

# SLURM_PROCID in single quotes: it is read by each task. Here, in the batch shell, it is 0 for all of them.
# shellcheck disable=SC2016
srun --nodes="$NODES" --ntasks="$NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 --wait=300 \
    bash -c 'NODE_RANK=$SLURM_PROCID exec bash examples/cluster/node.sh "$@"' node "$@" &
step=$!

again=
trap 'again=1; say "the time is nearly up"; kill -TERM "$step"' USR1
trap 'kill -TERM "$step"' TERM INT
while :; do # a signal ends `wait`, and the step goes on until it has ended itself
    status=0
    wait "$step" || status=$?
    kill -0 "$step" 2>/dev/null || break
done

if [ -n "$again" ] && [ "$status" -ne 0 ]; then
    say "ended with $status before its time was up: queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
