# Any folder of images, at any depth: mkdir -p data && ln -sfn /my/photos data/photos
from mmengine.config import read_base

with read_base():
    from .r50_8xb32 import *

# a folder smaller than a batch trains too
train_dataloader.update(drop_last=False)
train_dataloader.dataset.update(data_root='data/photos/', data_prefix='')
