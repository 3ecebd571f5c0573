"""Small files in the place of the images, configs and checkpoints that the documentation names.

All functions write to the working folder.
"""

import json
import os
import re
from pathlib import Path

import torch
import torchvision
from mmengine.config import Config
from PIL import Image

from mmcrosscl.datasets.demo import write_demo_photos
from mmcrosscl.datasets.demo.cutouts import CLASSES
from tests.checkpoints.makers import crosscl, reference
from tests.detection import SIZE
from tests.evaluation.checkpoints import DETECTOR, write_crosscl, write_detector
from tests.reports.work_dirs import write_run

ROOT = Path(__file__).parents[2]
GETTING_STARTED = ROOT / 'docs/getting-started.md'


def photos(folder: str) -> None:
    """Write a folder of photographs."""
    write_demo_photos(Path(folder), count=4)


def labeled(root: str = '.') -> None:
    """Write COCO files of 1,000 and 10 images with one object each, of the classes of scenes."""
    for split, count, color in (('train', 1000, 'gray'), ('test', 10, 'white')):
        folder = Path(root, split)
        folder.mkdir(parents=True)
        Image.new('RGB', SIZE, color).save(folder / '0.jpg')
        for number in range(1, count):
            os.link(folder / '0.jpg', folder / f'{number}.jpg')
        width, height = SIZE
        numbers = range(count)
        contents = dict(
            images=[dict(id=n, file_name=f'{n}.jpg', width=width, height=height) for n in numbers],
            annotations=[
                dict(
                    id=n, image_id=n, category_id=n % 10, bbox=[8, 8, 40, 40], area=1600, iscrowd=0
                )
                for n in numbers
            ],
            categories=[dict(id=n, name=name) for n, name in enumerate(CLASSES)],
        )
        path = Path(root, f'annotations/{split}.json')
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(contents))


def rtmdet() -> None:
    """Write my_rtmdet_s.py as on the page "Getting started", and shorten it."""
    (example,) = re.findall(r'```python\n(.*?)```', GETTING_STARTED.read_text(), re.DOTALL)
    Path('example.py').write_text(example)
    cfg = Config.fromfile('example.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.indices = 4
        loader.dataset.pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(64, 64)),
            dict(type='PackDetInputs'),
        ]
    cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 1
    # weights that would be downloaded
    cfg.model.backbone.init_cfg = None
    cfg.dump('my_rtmdet_s.py')


def detector() -> None:
    """Write my_detector.py, the weights that it loads, and a checkpoint of its pre-training."""
    cfg = Config.fromfile(DETECTOR)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='imagenet.pth')
    cfg.dump('my_detector.py')
    torch.save(torchvision.models.resnet18().state_dict(), 'imagenet.pth')
    Path('work_dirs/mine').mkdir(parents=True)
    write_detector(Path('work_dirs/mine/my_detector_pretrained.pth'))


def pretrained_rtmdet() -> None:
    """Write a checkpoint of my_rtmdet_s.py."""
    Path('work_dirs/rtmdet_s').mkdir(parents=True)
    write_detector(Path('work_dirs/rtmdet_s/my_rtmdet_s_pretrained.pth'), 'my_rtmdet_s.py')


def demo() -> None:
    """Write the checkpoints of the demo, and its test images."""
    Path('work_dirs/demo/latest/from_crosscl').mkdir(parents=True)
    write_crosscl(Path('work_dirs/demo/latest/iter_100.pth'))
    write_detector(Path('work_dirs/demo/latest/from_crosscl/iter_150.pth'))
    labeled('data/demo_sensor')


def published() -> None:
    """Write a checkpoint with the architecture of the published one."""
    path = Path('work_dirs/r50_8xb32/epoch_200.pth')
    path.parent.mkdir(parents=True, exist_ok=True)
    cfg = Config.fromfile(ROOT / 'configs/crosscl/r50_8xb32.py')
    meta = dict(cfg=cfg.pretty_text, epoch=200)
    torch.save(dict(state_dict=crosscl(depth=50).state_dict(), meta=meta), path)


def runs() -> None:
    """Write the work dirs of three runs."""
    for name in ('first', 'second', 'r50_8xb32'):
        write_run(Path('work_dirs', name))


def foreign() -> None:
    """Write checkpoints in the formats of CrossCL's authors and of DINO."""
    torch.save(dict(state_dict=reference(18), arch='resnet18'), 'checkpoint_0199.pth.tar')
    state = torchvision.models.resnet18().state_dict()
    networks = ('student', 'teacher')
    torch.save({n: {f'module.{k}': v for k, v in state.items()} for n in networks}, 'dino.pth')


def imagenet() -> None:
    """Write the images of three classes in the layout of ImageNet."""
    for split in ('train', 'val'):
        for number in range(3):
            photos(f'data/imagenet/{split}/n0144076{number}')
