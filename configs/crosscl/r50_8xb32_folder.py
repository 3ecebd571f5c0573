# All images below data/photos: mkdir -p data && ln -sfn /my/photos data/photos
_base_ = './r50_8xb32.py'

train_dataloader = dict(
    # a folder with fewer images than a batch can be used too
    drop_last=False,
    dataset=dict(data_root='data/photos/', data_prefix=''),
)
