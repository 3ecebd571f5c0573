"""A small labeled dataset and settings for tests of studies."""

from pathlib import Path

from mmcrosscl.datasets.demo import write_demo_objects, write_demo_photos

DETECTOR = 'configs/detection/faster-rcnn_r18_demo.py'


def write_data(folder: Path, train: int = 30, test: int = 4) -> dict:
    """Write images, and return arguments of :func:`create_study`."""
    write_demo_photos(folder / 'photos', count=8)
    write_demo_objects(folder / 'objects', train=train, val=test)
    annotations = folder / 'objects/annotations'
    return dict(
        detector=DETECTOR,
        unlabeled=str(folder / 'photos'),
        train=str(annotations / 'train.json'),
        test=str(annotations / 'val.json'),
        arms=['random', 'crosscl'],
        labels=[12],
        seeds=2,
        rates=[1e-3],
        pretrain_iters=2,
        pretrain_batch=2,
        fine_tune_iters=2,
        fine_tune_batch=2,
    )
