from mmengine.config import read_base

with read_base():
    from .r50_8xb32 import *

# the smallest crop of a reduced image still has 480 pixels a side
train_pipeline[0].update(min_size=1240)
train_dataloader.dataset.update(pipeline=train_pipeline)
custom_hooks.append(dict(type='mmcrosscl.MultiScaleHook', scales=[224, 384, 480]))
