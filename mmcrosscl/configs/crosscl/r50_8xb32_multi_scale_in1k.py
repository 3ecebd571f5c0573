from mmengine.config import read_base

with read_base():
    from .r50_8xb32 import *

custom_hooks.append(dict(type='mmcrosscl.MultiScaleHook', scales=[224, 384, 480]))
