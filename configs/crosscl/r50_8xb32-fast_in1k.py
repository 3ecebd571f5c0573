# bfloat16, and colours and blur changed on the GPU: for GPUs that outrun their CPU cores
_base_ = './r50_8xb32.py'

train_pipeline = _base_.train_pipeline  # noqa: F821
train_pipeline[2].update(on_device=True)
train_pipeline[3].update(on_device=True)
train_pipeline[4].update(on_device=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(type='mmcrosscl.BFloat16OptimWrapper')
