# All images below data/photos. To link a folder: mkdir -p data && ln -sfn /my/photos data/photos
_base_ = './r50_8xb32.py'

train_dataloader = dict(
    # a folder may have fewer images than a batch
    drop_last=False,
    dataset=dict(data_root='data/photos/', data_prefix=''),
)
