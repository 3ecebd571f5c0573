# ImageNet-1k, 200 epochs: the published recipe
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.imagenet import *
    from .._base_.default_runtime import *
    from .._base_.models.crosscl_r50_fpn import *
    from .._base_.schedules.sgd_coslr_200e import *
