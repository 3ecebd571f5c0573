# bfloat16, and colours and blur changed on the GPU: for GPUs that outrun their CPU cores
from mmengine.config import read_base

with read_base():
    from .r50_8xb32 import *

train_pipeline[2].update(on_device=True)
train_pipeline[3].update(on_device=True)
train_pipeline[4].update(on_device=True)
train_dataloader.dataset.update(pipeline=train_pipeline)
optim_wrapper.update(type='mmcrosscl.BFloat16OptimWrapper')
