# bfloat16, with blur, color jitter and grayscale on the GPU, for nodes whose CPU is the bottleneck
_base_ = './r50_8xb32.py'

train_pipeline = _base_.train_pipeline
train_pipeline[2].update(on_device=True)
train_pipeline[3].update(on_device=True)
train_pipeline[4].update(on_device=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(type='mmcrosscl.BFloat16OptimWrapper')
