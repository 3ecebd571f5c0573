# BN after every FPN convolution, which then has no bias
from mmengine.config import read_base

with read_base():
    from .r50_8xb32 import *

model.neck.update(norm_cfg=dict(type='BN'))
