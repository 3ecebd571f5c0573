import pytest
import torch
from mmdet.structures.bbox import bbox2roi

from mmcrosscl.errors import InputError
from mmcrosscl.models import region_vectors
from mmcrosscl.models.regions import build_roi_layer

ROI_ALIGN = dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False)


@pytest.mark.parametrize('stride', [8, 16])
def test_a_region_of_a_ramp_has_the_value_at_its_center(stride):
    # RoIAlign averages bilinear samples, which is exact on a ramp. Without half-pixel shift, cell i
    # is at i · stride pixels.
    x = torch.arange(14.0).expand(14, 14)
    feature_map = torch.stack((x, x.T))[None].expand(2, 2, 14, 14)
    boxes = [torch.tensor([[16.0, 32.0, 64.0, 80.0]]), torch.tensor([[24.0, 0.0, 56.0, 40.0]])]
    layer = build_roi_layer(ROI_ALIGN, stride)
    expected = torch.tensor([[40.0, 56.0], [40.0, 20.0]]) / stride
    pooled = layer(feature_map.contiguous(), bbox2roi(boxes)).flatten(1)
    torch.testing.assert_close(pooled, expected)
    vectors = region_vectors(feature_map, bbox2roi(boxes), layer)
    torch.testing.assert_close(vectors, expected / expected.norm(dim=1, keepdim=True))


def test_each_row_is_pooled_from_the_view_of_its_index():
    angles = torch.arange(3.0)
    feature_map = torch.stack((angles.cos(), angles.sin()), dim=1)[:, :, None, None]
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    rois = bbox2roi([box, box[:0], box.repeat(2, 1)])
    vectors = region_vectors(feature_map.expand(3, 2, 4, 4), rois, build_roi_layer(ROI_ALIGN, 8))
    torch.testing.assert_close(vectors, feature_map[[0, 2, 2], :, 0, 0])


def test_memory_layout_does_not_matter():
    feature_map = torch.randn(2, 5, 8, 8)
    boxes = bbox2roi([torch.tensor([[3.0, 5.0, 37.0, 41.0]])] * 2)
    layer = build_roi_layer(ROI_ALIGN, 8)
    channels_last = feature_map.to(memory_format=torch.channels_last)
    one, other = (region_vectors(x, boxes, layer) for x in (channels_last, feature_map))
    assert torch.equal(one, other)


def test_no_boxes_return_no_rows_but_gradients():
    feature_map = torch.randn(2, 5, 4, 4, requires_grad=True)
    vectors = region_vectors(feature_map, torch.zeros(0, 5), build_roi_layer(ROI_ALIGN, 8))
    assert vectors.shape == (0, 5)
    vectors.sum().backward()
    assert torch.equal(feature_map.grad, torch.zeros_like(feature_map))


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(type='RoiAlign', output_size=1), "'RoiAlign' is not a layer of mmcv.ops"),
        (dict(type='nms', output_size=1), "'nms' is not a layer"),
        (dict(output_size=1), 'None is not a layer'),
        (dict(type='RoIAlign', output_size=7), 'a region is one vector'),
    ],
)
def test_invalid_settings_raise_an_error(settings, message):
    with pytest.raises(InputError, match=message):
        build_roi_layer(settings, 16)


def test_precise_pooling_on_a_cpu_raises_an_error():
    layer = build_roi_layer(dict(type='PrRoIPool', output_size=1), 8)
    with pytest.raises(InputError, match='PrRoIPool runs on GPUs only'):
        region_vectors(torch.randn(1, 3, 8, 8), torch.tensor([[0.0, 0.0, 0.0, 9.0, 9.0]]), layer)


@pytest.mark.gpu
def test_precise_pooling_of_a_constant_is_the_constant():
    layer = build_roi_layer(dict(type='PrRoIPool', output_size=1), 8)
    feature_map = torch.full((1, 3, 8, 8), 2.5, device='cuda')
    rois = torch.tensor([[0.0, 3.0, 5.0, 37.0, 41.0]], device='cuda')
    pooled = layer(feature_map, rois).flatten(1)
    torch.testing.assert_close(pooled, torch.full((1, 3), 2.5, device='cuda'))
    vectors = region_vectors(feature_map, rois, layer)
    torch.testing.assert_close(vectors, torch.full((1, 3), 3**-0.5, device='cuda'))
