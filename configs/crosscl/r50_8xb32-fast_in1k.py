# bfloat16, and color jitter and blur on the GPU: for machines whose CPU cores limit the speed
_base_ = './r50_8xb32.py'

train_pipeline = _base_.train_pipeline
train_pipeline[2].update(on_device=True)
train_pipeline[3].update(on_device=True)
train_pipeline[4].update(on_device=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(type='mmcrosscl.BFloat16OptimWrapper')
