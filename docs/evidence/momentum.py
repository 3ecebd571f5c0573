# Changes for a short pre-training from random weights; see ../evidence.md
model = dict(momentum=0.01)
optim_wrapper = dict(type='mmcrosscl.BFloat16OptimWrapper')
