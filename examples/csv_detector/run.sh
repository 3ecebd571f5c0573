#!/usr/bin/env bash
# Pre-train, fine-tune from random weights and from the pre-training, compare: minutes on two cores.
# ITERS sets the length of the pre-training.
set -euo pipefail
cd "$(dirname "$0")"
# the config imports csv_boxes
export PYTHONPATH=$PWD

[ -d data ] || python make_data.py
config=configs/rtmdet_tiny_csv.py
mmcrosscl pretrain --detector $config --data data/photos --work-dir work_dirs/pretrain \
    --iters "${ITERS:-100}" --batch-size 16
checkpoint=work_dirs/pretrain/rtmdet_tiny_csv_pretrained.pth
mmcrosscl train $config --work-dir work_dirs/random
mmcrosscl train $config --work-dir work_dirs/pretrained --cfg-options pretrained=$checkpoint
mmcrosscl similarity untrained CrossCL=$checkpoint --config $config --data data/photos
mmcrosscl report work_dirs/pretrain work_dirs/random work_dirs/pretrained
