"""Small labelled sets in the layouts of COCO and VOC, and detection configs that run on them."""

import json
from pathlib import Path

from mmdet.datasets import CocoDataset, VOCDataset
from mmengine.config import Config

from mmcrosscl.datasets.demo.objects import write_demo_objects


def write_coco(folder: Path, train: int = 4, val: int = 2) -> Path:
    """COCO 2017 with few images, boxes as masks; gives its root."""
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


def write_voc(folder: Path) -> Path:
    """VOC 2007 and 2012 with few images; gives the root of both."""
    write_demo_objects(folder / 'objects', train=4, val=2)
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


def shorten(cfg: Config, root: Path, iterations: int = 2) -> None:
    """Few iterations on small images below root, in place; the model stays what it is."""
    text = cfg.pretty_text
    for name in ('data/coco/', 'data/VOCdevkit/'):
        text = text.replace(f"'{name}", f"'{root}/")
    cfg.merge_from_dict(Config.fromstring(text, '.py').to_dict())
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        _shrink(loader)
    if cfg.train_cfg.type == 'IterBasedTrainLoop':
        cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    else:
        cfg.train_cfg.max_epochs = 1
    for hook in cfg.get('custom_hooks') or []:
        if 'interval' in hook:
            hook.interval = iterations
    # a random head's proposals are of no use and take their time
    if 'rpn' in cfg.model.test_cfg and cfg.model.test_cfg.rpn:
        cfg.model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)
        stages = cfg.model.train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 32
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 10**6


def _shrink(node: object) -> None:
    if isinstance(node, dict):
        if node.get('type') in ('Resize', 'RandomResize', 'RandomChoiceResize'):
            node['scales' if 'scales' in node else 'scale'] = (
                [(128, 96)] if 'scales' in node else (128, 96)
            )
        for value in node.values():
            _shrink(value)
    elif isinstance(node, list | tuple):
        for value in node:
            _shrink(value)
