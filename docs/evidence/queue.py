# A queue of a twelfth of the images, in bfloat16; see ../evidence.md
model = dict(queue=dict(length=512))
optim_wrapper = dict(type='mmcrosscl.BFloat16OptimWrapper')
