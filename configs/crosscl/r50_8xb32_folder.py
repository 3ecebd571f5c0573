# Any folder of images, at any depth: mkdir -p data && ln -sfn /my/photos data/photos
_base_ = './r50_8xb32.py'

train_dataloader = dict(
    # a folder smaller than a batch trains too
    drop_last=False,
    dataset=dict(data_root='data/photos/', data_prefix=''),
)
