#!/usr/bin/env bash
# Train with one process per GPU, or several on a CPU:
#   tools/dist_train.sh CONFIG PROCESSES_PER_MACHINE [arguments of train.py]
# Several machines: run it on each, with NNODES, MASTER_ADDR and PORT set.
# When a process dies all are started again, MAX_RESTARTS (3) times, from the newest checkpoint.
# SIGTERM or SIGUSR1: a checkpoint is saved, and the exit status is 75.
set -uo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 CONFIG PROCESSES_PER_MACHINE [arguments of train.py]" >&2
  exit 2
fi
tools=$(cd "$(dirname "$0")" && pwd)
# each start gets a store of its own: in one that is shared, processes find the addresses of dead ones
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# what a shell starts with & is deaf to Ctrl-C; torchrun would go on waiting for other machines
torchrun='import runpy, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
runpy.run_module("torch.distributed.run", run_name="__main__", alter_sys=True)'
PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" "${PYTHON:-python3}" -c "$torchrun" \
  --nnodes="${NNODES:-1}" \
  --rdzv-backend=c10d \
  --rdzv-id="${RUN_ID:-mmcrosscl}" \
  --rdzv-endpoint="${MASTER_ADDR:-127.0.0.1}:${PORT:-29500}" \
  --nproc_per_node="$2" \
  --max-restarts="${MAX_RESTARTS:-3}" \
  --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
  "$tools/train.py" "$1" --launcher pytorch "${@:3}" &
launcher=$!
told=
trap 'told=TERM; kill -TERM $launcher' TERM
trap 'told=USR1; kill -USR1 $launcher' USR1
wait $launcher
status=$?
while [ -n "$told" ] && kill -0 $launcher 2>/dev/null; do
  wait $launcher
  status=$?
done
# torchrun reports what its processes exited with as 1
if [ -n "$told" ] && [ $status -ne 0 ]; then exit 75; fi
exit $status
