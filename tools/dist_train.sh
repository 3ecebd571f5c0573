#!/usr/bin/env bash
# Train with one process per GPU, or several on a CPU:
#   tools/dist_train.sh CONFIG PROCESSES_PER_MACHINE [arguments of train.py]
# Several machines: run it on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 CONFIG PROCESSES_PER_MACHINE [arguments of train.py]" >&2
  exit 2
fi
tools=$(cd "$(dirname "$0")" && pwd)

PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" \
  --nproc_per_node="$2" \
  "$tools/train.py" "$1" --launcher pytorch "${@:3}"
