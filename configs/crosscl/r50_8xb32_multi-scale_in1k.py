_base_ = './r50_8xb32.py'

custom_hooks = [
    dict(type='mmcrosscl.SkippedImagesHook', interval=50),
    dict(type='mmcrosscl.MultiScaleHook', scales=[224, 384, 480]),
]
