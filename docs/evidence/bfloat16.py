# Pre-training in bfloat16 on CPUs that support it; see ../evidence.md
optim_wrapper = dict(type='mmcrosscl.BFloat16OptimWrapper')
