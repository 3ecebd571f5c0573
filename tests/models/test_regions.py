import pytest
import torch
from mmdet.structures.bbox import bbox2roi

from mmcrosscl.errors import InputError
from mmcrosscl.models import RegionPooling

ROI_ALIGN = dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False)


@pytest.mark.parametrize('level, stride', [('p3', 8), ('p4', 16)])
def test_a_region_of_a_ramp_is_the_value_at_its_middle(level, stride):
    # RoIAlign averages bilinear samples, which is exact on a ramp; without half-pixel shift cell i
    # stands at i · stride pixels
    x = torch.arange(14.0).expand(14, 14)
    feature_map = torch.stack((x, x.T))[None].expand(2, 2, 14, 14)
    boxes = [torch.tensor([[16.0, 32.0, 64.0, 80.0]]), torch.tensor([[24.0, 0.0, 56.0, 40.0]])]
    vectors = RegionPooling((level,), ROI_ALIGN)(feature_map, level, bbox2roi(boxes))
    expected = torch.tensor([[40.0, 56.0], [40.0, 20.0]]) / stride
    torch.testing.assert_close(vectors, expected)


def test_each_row_is_of_the_view_that_it_names():
    feature_map = torch.arange(3.0)[:, None, None, None].expand(3, 1, 4, 4)
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    rois = bbox2roi([box, box[:0], box.repeat(2, 1)])
    vectors = RegionPooling(('p3',), ROI_ALIGN)(feature_map, 'p3', rois)
    assert vectors.flatten().tolist() == [0, 2, 2]


def test_memory_layout_does_not_matter():
    feature_map = torch.randn(2, 5, 8, 8)
    boxes = bbox2roi([torch.tensor([[3.0, 5.0, 37.0, 41.0]])] * 2)
    pooling = RegionPooling(('p3',), ROI_ALIGN)
    channels_last = feature_map.to(memory_format=torch.channels_last)
    assert torch.equal(pooling(channels_last, 'p3', boxes), pooling(feature_map, 'p3', boxes))


def test_no_box_gives_no_row_but_gradients():
    feature_map = torch.randn(2, 5, 4, 4, requires_grad=True)
    vectors = RegionPooling(('p3',), ROI_ALIGN)(feature_map, 'p3', torch.zeros(0, 5))
    assert vectors.shape == (0, 5)
    vectors.sum().backward()
    assert torch.equal(feature_map.grad, torch.zeros_like(feature_map))


@pytest.mark.parametrize(
    'levels, layer, message',
    [
        (('c4',), ROI_ALIGN, "unknown level 'c4'"),
        (('p4',), dict(type='RoiAlign', output_size=1), "'RoiAlign' is no layer in mmcv.ops"),
        (('p4',), dict(type='nms', output_size=1), "'nms' is no layer"),
        (('p4',), dict(output_size=1), 'None is no layer'),
        (('p4',), dict(type='RoIAlign', output_size=7), 'a region is one vector'),
    ],
)
def test_bad_settings_are_named(levels, layer, message):
    with pytest.raises(InputError, match=message):
        RegionPooling(levels, layer)


def test_precise_pooling_on_a_cpu_is_refused():
    pooling = RegionPooling(('p3',), dict(type='PrRoIPool', output_size=1))
    with pytest.raises(InputError, match='PrRoIPool runs on GPUs only'):
        pooling(torch.randn(1, 3, 8, 8), 'p3', torch.tensor([[0.0, 0.0, 0.0, 9.0, 9.0]]))


@pytest.mark.gpu
def test_precise_pooling_of_a_constant_is_the_constant():
    layer = dict(type='PrRoIPool', output_size=1)
    feature_map = torch.full((1, 3, 8, 8), 2.5, device='cuda')
    rois = torch.tensor([[0.0, 3.0, 5.0, 37.0, 41.0]], device='cuda')
    vectors = RegionPooling(('p3',), layer).cuda()(feature_map, 'p3', rois)
    torch.testing.assert_close(vectors, torch.full((1, 3), 2.5, device='cuda'))
