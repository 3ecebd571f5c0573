#!/usr/bin/env bash
# Train on a Slurm cluster, one task per GPU:
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of mmcrosscl train]
# Environment variables, with their defaults: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (8),
# GRACE (120) and SRUN_ARGS (none).
# On SIGUSR1 or SIGTERM, training saves a checkpoint and exits. The script then starts srun again
# with --resume. In an sbatch job, the script requeues the job instead, and the job resumes from the
# checkpoint.
# Slurm sends SIGUSR1 GRACE seconds before the time limit. In an sbatch job, pass
# --signal=USR1@120 --requeue to sbatch.
set -uo pipefail
if [ $# -lt 4 ]; then
  echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [arguments of mmcrosscl train]" >&2
  exit 2
fi
tools=$(cd "$(dirname "$0")" && pwd)
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-8}
if [ "$gpus" -lt "$gpus_per_node" ]; then gpus_per_node=$gpus; fi
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"

resume=()
while :; do
  # SRUN_ARGS is not quoted, because it may hold several arguments.
  # shellcheck disable=SC2086
  srun \
    --partition="$1" \
    --job-name="$2" \
    --gres=gpu:"$gpus_per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-8}" \
    --kill-on-bad-exit=1 \
    --signal=USR1@"${GRACE:-120}" \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python3}" -u -m mmcrosscl train "$3" --work-dir "$4" --launcher slurm "${@:5}" \
    "${resume[@]}"
  status=$?
  # Status 75 means that training was preempted after it saved a checkpoint.
  if [ $status -ne 75 ]; then exit $status; fi
  if [ -n "${SLURM_JOB_ID:-}" ]; then
    scontrol requeue "$SLURM_JOB_ID" || echo "error: job $SLURM_JOB_ID cannot be requeued; submit it again with --resume" >&2
    exit $status
  fi
  resume=(--resume)
done
