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


def colored_pixels(figure, columns):
    """Return the number of colored pixels in each column of the figure."""
    pixels = np.asarray(Image.open(figure).convert('RGB')).astype(int)
    colored = (pixels.max(2) - pixels.min(2)) > 60
    return [part.sum() for part in np.array_split(colored, columns, axis=1)]


def test_labels_and_confident_boxes_are_drawn(paths, tmp_path):
    def predictions(boxes, scores):
        return [sample(path, boxes, scores) for path in paths]

    detectors = {'nothing': predictions([], []), 'unsure': predictions([[5, 5, 60, 60]], [0.2])}
    detectors['sure'] = predictions([[5, 5, 60, 60]], [0.9])
    plot_detections(detectors, CLASSES, tmp_path / 'found.png')
    labels, nothing, unsure, sure = colored_pixels(tmp_path / 'found.png', 4)
    assert labels > 500 and sure > 500 and nothing == unsure == 0


def test_different_images_are_an_error(paths, tmp_path):
    detectors = {'a': [sample(paths[0], [], [])], 'b': [sample(paths[1], [], [])]}
    for wrong in (detectors, {}, {'a': []}):
        with pytest.raises(InputError, match='expected predictions of all detectors on the same'):
            plot_detections(wrong, CLASSES, tmp_path / 'x.png')
    assert not (tmp_path / 'x.png').exists()
