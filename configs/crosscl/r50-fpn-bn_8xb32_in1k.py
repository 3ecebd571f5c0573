# Batch norm after every FPN convolution, in place of its bias
_base_ = './r50_8xb32.py'

model = dict(neck=dict(norm_cfg=dict(type='BN')))
