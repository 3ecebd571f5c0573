"""Small labeled datasets in the layouts of COCO and VOC, and detection configs adapted to them."""

import json
import re
from pathlib import Path

from mmdet.datasets import CocoDataset, VOCDataset
from mmengine.config import Config

from mmcrosscl.datasets.demo import write_demo_objects

# width and height of images, in pixels
SIZE = (96, 64)


def write_coco(folder: Path, train: int = 4, val: int = 2) -> Path:
    """Write a few images in the layout of COCO 2017, with boxes as masks, and return the root."""
    root = folder / 'coco'
    write_demo_objects(root, train=train, val=val)
    for split in ('train', 'val'):
        (root / split).rename(root / f'{split}2017')
        labels = json.loads((root / f'annotations/{split}.json').read_text())
        names = CocoDataset.METAINFO['classes']
        labels['categories'] = [dict(id=index, name=name) for index, name in enumerate(names)]
        labels.update(info={}, licenses=[])
        for annotation in labels['annotations']:
            x, y, w, h = annotation['bbox']
            annotation['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        (root / f'annotations/instances_{split}2017.json').write_text(json.dumps(labels))
    return root


def write_voc(folder: Path, train: int = 4, val: int = 2) -> Path:
    """Write a few images in the layout of VOC 2007 and 2012, and return the root."""
    write_demo_objects(folder / 'objects', train=train, val=val)
    root = folder / 'VOCdevkit'
    for year, split, subset in (
        ('VOC2007', 'train', 'trainval'),
        ('VOC2007', 'val', 'test'),
        ('VOC2012', 'train', 'trainval'),
    ):
        labels = json.loads((folder / f'objects/annotations/{split}.json').read_text())
        for part in ('ImageSets/Main', 'JPEGImages', 'Annotations'):
            (root / year / part).mkdir(parents=True, exist_ok=True)
        names = []
        for image in labels['images']:
            names.append(f'{split}_{image["id"]:04d}')
            source = folder / 'objects' / split / image['file_name']
            (root / year / 'JPEGImages' / f'{names[-1]}.jpg').write_bytes(source.read_bytes())
            boxes = ''
            for annotation in labels['annotations']:
                if annotation['image_id'] == image['id']:
                    x, y, w, h = annotation['bbox']
                    name = VOCDataset.METAINFO['classes'][annotation['category_id']]
                    boxes += (
                        f'<object><name>{name}</name><difficult>0</difficult><bndbox>'
                        f'<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>'
                        f'<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>'
                    )
            (root / year / 'Annotations' / f'{names[-1]}.xml').write_text(
                f'<annotation><size><width>{image["width"]}</width>'
                f'<height>{image["height"]}</height><depth>3</depth></size>{boxes}</annotation>'
            )
        (root / year / 'ImageSets/Main' / f'{subset}.txt').write_text('\n'.join(names))
    return root


def shorten(cfg: Config, root: Path, iterations: int = 1) -> None:
    """Modify a config to train for few iterations on small images, with the same architecture.

    Args:
        cfg (Config): Config of a detector for COCO or VOC, modified in place.
        root (Path): Root of the data, made by :func:`write_coco` or :func:`write_voc`.
        iterations (int): Length of an iteration-based schedule. An epoch-based schedule becomes one
            epoch long.
    """
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[name].update(num_workers=0, persistent_workers=False)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator',
                 'test_evaluator'):  # fmt: skip
        cfg[name] = _shrink(cfg[name], root)
    if cfg.train_cfg.type == 'IterBasedTrainLoop':
        cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    else:
        cfg.train_cfg.max_epochs = 1
    for hook in cfg.get('custom_hooks') or []:
        if 'interval' in hook:
            hook.interval = iterations
    # a randomly initialized head has many proposals, which take time
    if 'rpn' in cfg.model.test_cfg and cfg.model.test_cfg.rpn:
        cfg.model.test_cfg.rpn.update(nms_pre=20, max_per_img=10)
        stages = cfg.model.train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 8
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.update(interval=10**6, save_last=False)


def _shrink(node: object, root: Path) -> object:
    """Return the settings with small image sizes and with data paths below ``root``."""
    if isinstance(node, dict):
        node = {name: _shrink(value, root) for name, value in node.items()}
        if node.get('type') in ('mmdet.Resize', 'Resize', 'RandomResize', 'RandomChoiceResize'):
            if 'scales' in node:
                node['scales'] = [SIZE]
            else:
                node['scale'] = SIZE
    elif isinstance(node, list | tuple):
        node = type(node)(_shrink(value, root) for value in node)
    elif isinstance(node, str):
        node = re.sub('^data/(coco|VOCdevkit)/', f'{root}/', node)
    return node
