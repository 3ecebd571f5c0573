#!/usr/bin/env bash
# Run `mmcrosscl train CONFIG --gpus N`, which starts one process per GPU, or N processes on a CPU:
#   tools/dist_train.sh CONFIG PROCESSES_PER_MACHINE [arguments of mmcrosscl train]
# For several machines, run the same command on each, with NNODES, MASTER_ADDR and PORT set in the
# environment. OpenMMLab projects use the same script name.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 CONFIG PROCESSES_PER_MACHINE [arguments of mmcrosscl train]" >&2
  exit 2
fi
tools=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m mmcrosscl train "$1" --gpus "$2" "${@:3}"
