from mmengine.config import read_base

with read_base():
    from .r50_8xb32 import *

param_scheduler[0].update(T_max=400, end=400)
train_cfg.update(max_epochs=400)
