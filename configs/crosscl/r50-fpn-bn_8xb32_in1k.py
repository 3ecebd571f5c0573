# Batch norm after every FPN convolution, which then has no bias
_base_ = './r50_8xb32.py'

model = dict(neck=dict(norm_cfg=dict(type='BN')))
