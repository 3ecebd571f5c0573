import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign

from mmcrosscl.errors import InputError
from mmcrosscl.models import CrossCLHead, info_nce
from mmcrosscl.models.head import pool_negatives
from mmcrosscl.structures import paired_rois
from tests.models.builders import make_sample

SIZE, IMAGES, CHANNELS = 64, 3, 8
GLOBAL = dict(query='global', key='global', negatives='queue')
STRIDES = dict(p3=8, p4=16, p5=32)


def features(levels=('p3', 'p4'), seed=0):
    generator = torch.Generator().manual_seed(seed)
    out = {'global': torch.randn(IMAGES, 6, generator=generator)}
    for level in levels:
        side = SIZE // STRIDES[level]
        out[level] = torch.randn(IMAGES, CHANNELS, side, side, generator=generator)
    return out


def regional(query, key, negatives='own_rank', **more):
    return dict(query=query, key=key, negatives=negatives, **more)


def contrast(head, query, key, samples, size=SIZE):
    queue = F.normalize(torch.randn(10, 6, generator=torch.Generator().manual_seed(9)), dim=1)
    negatives = {'queue': lambda: queue, **head.negatives(key, size)}
    return head.loss(query, key, negatives, samples, size)


def run(terms, levels=('p3', 'p4'), samples=None, size=SIZE):
    samples = samples or [make_sample(SIZE, key_crop=(0.1, 0.0, 0.8, 0.9))] * IMAGES
    head = CrossCLHead(terms, STRIDES)
    return contrast(head, features(levels, 0), features(levels, 1), samples, size)


def test_losses_and_accuracies_are_in_the_order_of_the_terms():
    losses = run([GLOBAL, regional('p4', 'p3'), regional('p3', 'p4', 'all_ranks')])
    assert list(losses) == [
        'loss_global', 'acc_global', 'loss_p4_p3', 'acc_p4_p3', 'loss_p3_p4', 'acc_p3_p4'
    ]  # fmt: skip


def test_query_regions_are_contrasted_with_key_regions_and_cells():
    losses = run([regional('p4', 'p3')])
    sample = make_sample(SIZE, key_crop=(0.1, 0.0, 0.8, 0.9))

    def rows(maps, level, view):
        boxes = torch.from_numpy(sample.regions(view)[sample.paired])
        rois = torch.cat([F.pad(boxes, (1, 0), value=float(i)) for i in range(IMAGES)])
        layer = RoIAlign(1, 1 / STRIDES[level], sampling_ratio=0, aligned=False)
        return F.normalize(layer(maps[level], rois).flatten(1), dim=1)

    query = rows(features(seed=0), 'p4', 'query')
    key = rows(features(seed=1), 'p3', 'key')
    cells = pool_negatives(features(seed=1)['p3'], SIZE)
    assert 0 < len(query) < 36 * IMAGES
    loss, accuracy = info_nce(query, key, cells, 0.2)
    torch.testing.assert_close(losses['loss_p4_p3'], loss)
    torch.testing.assert_close(losses['acc_p4_p3'], accuracy)


def test_weight_scales_a_term():
    once = run([regional('p4', 'p4'), GLOBAL])
    half = run([regional('p4', 'p4', weight=0.5), GLOBAL])
    torch.testing.assert_close(half['loss_p4_p4'], once['loss_p4_p4'] / 2)
    torch.testing.assert_close(half['loss_global'], once['loss_global'])
    torch.testing.assert_close(half['acc_p4_p4'], once['acc_p4_p4'])


def test_terms_can_be_only_within_stages_or_of_three_levels():
    within = run([GLOBAL, regional('p4', 'p4'), regional('p3', 'p3')])
    assert {name for name in within if name.startswith('loss')} == {
        'loss_global', 'loss_p4_p4', 'loss_p3_p3'
    }  # fmt: skip
    levels = ('p3', 'p4', 'p5')
    three = run([regional(q, k) for q in levels for k in levels], levels)
    assert sum(name.startswith('loss') for name in three) == 9
    assert all(torch.isfinite(value) for value in three.values())


def test_unpaired_regions_are_ignored():
    full = [make_sample(SIZE)] * IMAGES
    half = [make_sample(SIZE) for _ in range(IMAGES)]
    for sample in half:
        sample.paired[18:] = False
        sample.key_regions[18:] = float('nan')
    cut = [make_sample(SIZE) for _ in range(IMAGES)]
    for sample in cut:
        sample.query_regions = sample.query_regions[:18]
        sample.key_regions = sample.key_regions[:18]
        sample.paired = sample.paired[:18]
    term = [regional('p3', 'p4')]
    torch.testing.assert_close(run(term, samples=half), run(term, samples=cut))
    assert run(term, samples=half)['loss_p3_p4'] != run(term, samples=full)['loss_p3_p4']


@pytest.mark.parametrize(
    'size, side, stride', [(224, 3, 1), (384, 4, 2), (480, 5, 2), (96, 1, 1), (64, 1, 1)]
)
def test_the_window_of_the_negatives_grows_with_the_view(size, side, stride):
    feature_map = torch.randn(2, 5, size // 16, size // 16)
    cells = F.avg_pool2d(feature_map, side, stride)
    expected = F.normalize(cells.flatten(2).transpose(1, 2).reshape(-1, 5), dim=1)
    torch.testing.assert_close(pool_negatives(feature_map, size), expected)


def test_the_negatives_of_one_image_are_contiguous():
    assert pool_negatives(torch.randn(1, 5, 4, 4), 64).is_contiguous()


def test_a_map_smaller_than_the_window_has_one_negative_per_image():
    # at stride 128, a view of 256 pixels has 2 × 2 cells, but the full window has 3 × 3
    feature_map = torch.randn(2, 5, 2, 2)
    expected = F.normalize(feature_map.mean(dim=(2, 3)), dim=1)
    torch.testing.assert_close(pool_negatives(feature_map, 256), expected)


def test_at_224_there_are_144_and_676_negatives_per_image():
    assert len(pool_negatives(torch.randn(2, 4, 14, 14), 224)) == 2 * 144
    assert len(pool_negatives(torch.randn(2, 4, 28, 28), 224)) == 2 * 676


def test_half_precision_features_are_contrasted_in_full_precision():
    half = {name: x.half() for name, x in features().items()}
    head = CrossCLHead([GLOBAL, regional('p4', 'p3')], STRIDES)
    losses = contrast(head, half, half, [make_sample(SIZE)] * IMAGES)
    assert {value.dtype for value in losses.values()} == {torch.float32}


@pytest.mark.parametrize(
    'terms, message',
    [
        ([regional('p4', 'c3')], "unknown level 'c3'"),
        ([], 'set at least one term, and each term only once'),
        ([GLOBAL, GLOBAL], 'set at least one term, and each term only once'),
        ([regional('p4', 'global')], 'contrast "global" with "global"'),
        ([regional('p4', 'p3', 'queue')], 'contrast two pyramid levels'),
        ([regional('p4', 'p3', 'everywhere')], '"all_ranks" or "own_rank"'),
        (['p4'], 'unknown or missing fields'),
        ([dict(query='p4', key='p3')], 'unknown or missing fields'),
        ([regional('p4', 'p3', wieght=2)], 'unknown or missing fields'),
    ],
)
def test_invalid_terms_raise_an_error(terms, message):
    with pytest.raises(InputError, match=message):
        CrossCLHead(terms, STRIDES)


def test_a_size_that_is_not_a_multiple_of_every_stride_raises_an_error():
    message = 'for a view size of 63, which does not match its stride .* a multiple of 16 and'
    with pytest.raises(InputError, match=message):
        run([regional('p4', 'p3')], size=63)


def test_regional_terms_need_strides_and_global_terms_do_not():
    message = r"unknown level 'p4', 'p3' \(known levels: none\)"
    with pytest.raises(InputError, match=message):
        CrossCLHead([GLOBAL, regional('p4', 'p3')])
    head = CrossCLHead([GLOBAL])
    assert head.levels == () and head.strides == {}


def test_levels_are_the_terms_levels_without_global():
    head = CrossCLHead([GLOBAL, regional('p4', 'p3'), regional('p4', 'p4')], STRIDES)
    assert head.levels == ('p4', 'p3') and head.strides == dict(p4=16, p3=8)


def test_region_vectors_are_pooled_in_full_precision_at_the_levels_stride():
    head = CrossCLHead([regional('p4', 'p3')], STRIDES)
    rois = torch.from_numpy(paired_rois([make_sample(SIZE)] * IMAGES, 'query'))
    for level, feature_map in features().items():
        if level == 'global':
            continue
        layer = RoIAlign(1, 1 / STRIDES[level], sampling_ratio=0, aligned=False)
        expected = F.normalize(layer(feature_map, rois).flatten(1), dim=1)
        assert torch.equal(head.region_vectors(feature_map, rois, level), expected)
        half = head.region_vectors(feature_map.half(), rois, level)
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, expected, rtol=0, atol=2e-3)


def test_samples_without_regions_raise_an_error():
    sample = make_sample(SIZE)
    del sample.key_regions
    with pytest.raises(InputError, match="no 'key_regions'.*mmcrosscl.RegionPairs"):
        run([regional('p4', 'p3')], samples=[sample] * IMAGES)
