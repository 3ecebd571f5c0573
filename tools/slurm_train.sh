#!/usr/bin/env bash
# Train on a Slurm cluster, one task per GPU:
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of mmcrosscl train]
# Environment variables, with their defaults: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (8),
# GRES (gpu:GPUS_PER_NODE; an empty value starts as many tasks on CPUs), GRACE (120), MAX_RESTARTS
# (3) and SRUN_ARGS (none).
# On SIGUSR1 or SIGTERM, training saves a checkpoint and exits with status 75. The script then
# starts srun again. In an sbatch job, the script requeues the job instead. If a task dies, the
# script starts srun again, at most MAX_RESTARTS times. All attempts resume from the newest
# checkpoint of the run.
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
gres=${GRES-gpu:$gpus_per_node}
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
# With these variables, a restarted run resumes only from its own checkpoints.
export MMCROSSCL_LAUNCH="$(hostname)-$$-$(date +%s)" MMCROSSCL_RESTARTS=0

# srun returns the highest status of its tasks. When one task fails, Slurm terminates the others, so
# the status of a failure must be above those of terminated tasks, 138 and 143.
# shellcheck disable=SC2016
task='trap : TERM USR1; "$@"; status=$?
case $status in 0 | 75 | 138 | 143) exit $status ;; esac
echo "task $SLURM_PROCID ended with status $status" >&2
case $status in 1 | 2) exit 202 ;; 65) exit 203 ;; *) exit 201 ;; esac'

# bash runs a trap after srun has ended, and without a trap it would end before srun
terminated=
trap terminated=1 TERM USR1
# srun ends after Ctrl-C twice
trap 'exit 130' INT
failures=0
while :; do
  # SRUN_ARGS is not quoted, because it may hold several arguments.
  # shellcheck disable=SC2086
  srun \
    --partition="$1" \
    --job-name="$2" \
    ${gres:+--gres="$gres"} \
    --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-8}" \
    --kill-on-bad-exit=1 \
    --signal=USR1@"${GRACE:-120}" \
    ${SRUN_ARGS:-} \
    bash -c "$task" task \
    "${PYTHON:-python3}" -u -m mmcrosscl train "$3" --work-dir "$4" --launcher slurm "${@:5}"
  status=$?
  case $status in
    # success, or srun refused its arguments
    0 | 1 | 2) exit $status ;;
    # an input error or wrong usage
    202) exit 1 ;;
    # NaN/Inf
    203) exit 65 ;;
    # preempted after a checkpoint was saved, or before training began (SIGUSR1, SIGTERM)
    75 | 138 | 143)
      if [ -n "${SLURM_JOB_ID:-}" ]; then
        scontrol requeue "$SLURM_JOB_ID" || echo "error: job $SLURM_JOB_ID cannot be requeued; submit it again with --resume" >&2
        exit 75
      fi
      ;;
    *)
      failures=$((failures + 1))
      if [ $failures -gt "${MAX_RESTARTS:-3}" ]; then exit $status; fi
      echo "srun ended with status $status; restart $failures of ${MAX_RESTARTS:-3}" >&2
      ;;
  esac
  if [ -n "$terminated" ]; then exit $status; fi
  MMCROSSCL_RESTARTS=$((MMCROSSCL_RESTARTS + 1))
done
