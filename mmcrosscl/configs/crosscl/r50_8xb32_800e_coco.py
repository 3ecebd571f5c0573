# COCO train2017 without its labels
from mmengine.config import read_base

with read_base():
    from .r50_8xb32 import *

train_dataloader.dataset.update(data_root='data/coco/', data_prefix='train2017/')
optim_wrapper.optimizer.update(lr=0.3)
param_scheduler[0].update(T_max=800, end=800)
train_cfg.update(max_epochs=800)
