import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from PIL import Image

from mmcrosscl.errors import InputError
from mmcrosscl.visualization import plot_detections

CLASSES = ('cat', 'dog')


def sample(path, boxes, scores):
    result = DetDataSample(metainfo=dict(img_path=str(path)))
    result.gt_instances = InstanceData(
        bboxes=torch.tensor([[10.0, 10, 50, 50]]), labels=torch.tensor([0])
    )
    result.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
        labels=torch.ones(len(boxes), dtype=torch.long),
        scores=torch.tensor(scores, dtype=torch.float),
    )
    return result


@pytest.fixture
def paths(tmp_path):
    paths = [tmp_path / f'{n}.png' for n in range(2)]
    for path in paths:
        Image.new('RGB', (64, 64), 'white').save(path)
    return paths


def columns(picture, count):
    """Pixels that are coloured, per column of the picture."""
    pixels = np.asarray(Image.open(picture).convert('RGB')).astype(int)
    coloured = (pixels.max(2) - pixels.min(2)) > 60
    return [part.sum() for part in np.array_split(coloured, count, axis=1)]


def test_labels_and_confident_boxes_are_drawn(paths, tmp_path):
    def seen(boxes, scores):
        return [sample(path, boxes, scores) for path in paths]

    detectors = {'nothing': seen([], []), 'unsure': seen([[5, 5, 60, 60]], [0.2])}
    detectors['sure'] = seen([[5, 5, 60, 60]], [0.9])
    plot_detections(detectors, CLASSES, tmp_path / 'found.png')
    labels, nothing, unsure, sure = columns(tmp_path / 'found.png', 4)
    assert labels > 500 and sure > 500 and nothing == unsure == 0


def test_other_images_are_refused(paths, tmp_path):
    detectors = {'a': [sample(paths[0], [], [])], 'b': [sample(paths[1], [], [])]}
    for wrong in (detectors, {}, {'a': []}):
        with pytest.raises(InputError, match='have not seen the same images'):
            plot_detections(wrong, CLASSES, tmp_path / 'x.png')
    assert not (tmp_path / 'x.png').exists()
