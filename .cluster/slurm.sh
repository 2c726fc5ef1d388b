#!/bin/bash
# A study on the nodes of one Slurm job, which goes back into the queue at its time limit until the
# study is done. In the root of the clone:
#
#     sbatch .cluster/slurm.sh digits --gpus 0.25
#
# What follows the script are options of `python -m study.launch`. See README.md, beside this file.

# The study is named after the job and its number, as in study-1234.
#SBATCH --job-name=study
# Ray is one task on each node.
#SBATCH --ntasks-per-node=1
# Slurm announces the time limit so many seconds before it, or up to a minute earlier, and to this
# script alone, since Ray must outlive the last epochs. Give more time if epochs take longer.
#SBATCH --signal=B:USR1@300
# A node may fail, too: then Slurm itself puts the job back into the queue.
#SBATCH --requeue
#SBATCH --open-mode=append

# ---- Yours to edit: seven lines -----------------------------------------------------------------

#SBATCH --partition=YOUR-PARTITION
#SBATCH --time=04:00:00
#SBATCH --nodes=2
# Of each node. Without GPUs, delete the second.
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
# Both must be there on all nodes. The directory is the one in which sbatch was typed.
environment=$PWD/.venv
scratch=/YOUR/SHARED/SCRATCH/iresnet-study

# -------------------------------------------------------------------------------------------------

set -euo pipefail
export PATH="$environment/bin:$PATH"
mkdir -p "$scratch"
export STUDY_STORAGE_PATH=${STUDY_STORAGE_PATH:-$scratch/ray_results}
# The driver alone writes to MLflow, so a file will do. Its path is absolute: four slashes. Jobs at
# the same time need a server, or a folder each.
export MLFLOW_TRACKING_URI=${MLFLOW_TRACKING_URI:-sqlite:///$scratch/mlflow.db}
# With it, Ray would give every trial so many threads, not as many as it has CPUs.
unset OMP_NUM_THREADS
# No usage statistics. Ray would still report that they are off: to an address where nobody listens.
export RAY_USAGE_STATS_ENABLED=${RAY_USAGE_STATS_ENABLED:-0}
if [ "$RAY_USAGE_STATS_ENABLED" = 0 ]; then export RAY_USAGE_STATS_REPORT_URL=http://127.0.0.1:9; fi
# Without this job's own token nobody can run code in its Ray, which all of the network can reach.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
# Jobs may share a node, so the two fixed ports follow from the job's number. They are below those
# that the system gives out, of which Ray takes its others.
port=$((20000 + 2 * (SLURM_JOB_ID % 5000)))
client_port=$((port + 1))
# This script runs on the first node.
head=$SLURMD_NODENAME
read -r ip _ < <(getent ahostsv4 "$head")

# Run on each node: Ray, until it is told to end.
ray_node() {
    # Sockets of Ray, which ask for no token: the folder around them is closed to others. A node's
    # /tmp, since the paths of sockets are limited to 107 bytes.
    local folder=/tmp/study-$SLURM_JOB_ID
    rm -rf "$folder"
    mkdir -m 700 "$folder"
    local -a options=(--address="$ip:$port")
    if [ "$SLURMD_NODENAME" = "$head" ]; then
        options=(
            --head --node-ip-address="$ip" --port="$port" --ray-client-server-port="$client_port"
            --include-dashboard=false --temp-dir="$folder/ray"
        )
    fi
    # The signal also goes to Ray itself; this shell must live on to tidy up.
    trap : TERM
    # No trial runs then, so that Ray need not wait for any.
    export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
    ulimit -Sn hard
    ray start --block "${options[@]}" --num-cpus="$SLURM_CPUS_PER_TASK" \
        --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 || true
    rm -rf "$folder"
}

# Run here: wait until Ray has all nodes, since the study counts them when it starts.
all_nodes() {
    python - "$ip:$port" "$SLURM_JOB_NUM_NODES" <<'END'
import sys
import time

import ray

address, n_nodes = sys.argv[1], int(sys.argv[2])
deadline = time.monotonic() + 120
ray.init(address, logging_level="ERROR", log_to_driver=False)
while len(ray.nodes()) < n_nodes:
    if time.monotonic() > deadline:
        sys.exit(f"{n_nodes} nodes must join Ray, but after 120 s there are {len(ray.nodes())}")
    time.sleep(1)
END
}

# By its step, which is the job's first. A signal to srun kills Ray without a chance to tidy up.
end_ray() {
    scancel --signal=TERM "$SLURM_JOB_ID.0" || kill -TERM "$ray" || true
    wait "$ray" || true
}

# USR1: the time limit. TERM: somebody's `scancel --batch --signal=TERM`, after which the job must
# not be requeued. Either interrupts the study once, which finishes the epochs that run.
signal='' driver=''
on_signal() {
    signal=$1
    trap '' USR1 TERM
    [ -z "$driver" ] || kill -TERM "$driver" 2>/dev/null || true
}
trap 'on_signal USR1' USR1
trap 'on_signal TERM' TERM

log=$scratch/ray-$SLURM_JOB_ID.log
export ip port client_port head
export -f ray_node
srun --export=ALL --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    bash -ec ray_node >>"$log" 2>&1 &
ray=$!
trap end_ray EXIT

launch=(python -m study.launch --name "$SLURM_JOB_NAME-$SLURM_JOB_ID" "$@")
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
    # A job that ended before there was a study has none to resume, and starts it. One that ended
    # after the last epoch has a study that is done. Ray starts meanwhile: this needs none.
    if plan=$("${launch[@]}" --address local --resume --dry-run 2>&1); then
        launch+=(--resume)
    elif [[ $plan == *"is done"* ]]; then
        echo "$plan"
        exit 0
    fi
    echo "$plan"
fi
all_nodes 2>>"$log" || { echo "Ray did not start on all nodes: see $log" >&2; exit 1; }
# Not as an option, which would stand in the command to resume that the study prints.
RAY_ADDRESS=$ip:$port "${launch[@]}" &
driver=$!
[ -z "$signal" ] || kill -TERM "$driver" || true
wait "$driver" && code=0 || code=$?
if [ -n "$signal" ]; then
    # If its epochs take longer, the second signal makes it leave without them.
    patience=$((SLURM_JOB_END_TIME - $(date +%s) - 60))
    timeout "$((patience > 0 ? patience : 1))" tail --pid="$driver" -f /dev/null ||
        kill -TERM "$driver" || true
    wait "$driver" && code=0 || code=$?
fi

# 0 is done, 1 failed, 2 bad input. Else it was interrupted, or ended before it could be.
if [ "$signal" = USR1 ] && [ "$code" -gt 2 ]; then
    end_ray
    trap - EXIT
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
