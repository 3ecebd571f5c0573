# Any folder of images, at any depth; put yours at data/photos or say where it is:
# --cfg-options train_dataloader.dataset.data_root=/my/photos
_base_ = './r50_8xb32.py'

train_dataloader = dict(
    # a folder smaller than a batch trains too
    drop_last=False,
    dataset=dict(data_root='data/photos/', data_prefix=''),
)
