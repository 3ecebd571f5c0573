#!/usr/bin/env bash
# OpenMMLab's name for `mmcrosscl train CONFIG --gpus N`: one process per GPU, or several on a CPU.
#   tools/dist_train.sh CONFIG PROCESSES_PER_MACHINE [arguments of mmcrosscl train]
# Several machines: run it on each, with NNODES, MASTER_ADDR and PORT set.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 CONFIG PROCESSES_PER_MACHINE [arguments of mmcrosscl train]" >&2
  exit 2
fi
tools=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m mmcrosscl train "$1" --gpus "$2" "${@:3}"
