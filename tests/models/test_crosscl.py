import copy

import pytest
import torch
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing

from mmcrosscl.errors import InputError
from mmcrosscl.models import CrossCLHead
from mmcrosscl.oracles.step import plain_loss
from mmcrosscl.registry import MODELS
from mmcrosscl.structures import paired_rois
from tests.models.builders import make_batch, model_config

TERMS = ['global', 'p4_p4', 'p3_p3', 'p4_p3', 'p3_p4']


def small_config(**settings):
    return model_config(width=16, **settings)


def build(**settings):
    model = MODELS.build(small_config(**settings))
    model.init_weights()
    return model.train()


def total(losses):
    return sum(value for name, value in losses.items() if name.startswith('loss'))


def test_a_step_returns_a_loss_and_an_accuracy_per_term():
    losses = build().loss(*make_batch())
    assert list(losses) == [f'{kind}_{term}' for term in TERMS for kind in ('loss', 'acc')]
    assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
    assert all(0 <= losses[f'acc_{term}'] <= 100 for term in TERMS)


def test_every_parameter_of_the_query_encoder_gets_a_gradient():
    model = build()
    total(model.loss(*make_batch())).backward()
    for name, parameter in model.named_parameters():
        if name.startswith('key_encoder'):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_a_batch_without_pairs_has_zero_regional_losses_and_zero_gradients():
    model = build()
    losses = model.loss(*make_batch(paired=False))
    assert [losses[f'loss_{term}'].item() for term in TERMS[1:]] == [0.0] * 4
    assert losses['loss_global'] > 0
    total(losses).backward()
    neck = {n: p.grad for n, p in model.neck.named_parameters() if 'conv' in n}
    assert neck and all(torch.equal(grad, torch.zeros_like(grad)) for grad in neck.values())
    assert model.neck.projection.mlp[0].weight.grad.abs().sum() > 0


def test_keys_are_enqueued_after_the_loss():
    model = build(queue_len=7)
    before = model.queue.keys.clone()
    model.loss(*make_batch(images=4))
    assert model.queue.pointer.item() == 4
    assert not torch.equal(model.queue.keys[:4], before[:4])
    assert torch.equal(model.queue.keys[4:], before[4:])
    torch.testing.assert_close(model.queue.keys.norm(dim=1), torch.ones(7))


def test_the_key_encoder_starts_as_the_initialized_query_encoder():
    model = build()
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.mul_(1.5)
    model.loss(*make_batch())
    for actual, reference in zip(
        model.key_encoder.backbone.parameters(), model.backbone.parameters()
    ):
        assert torch.equal(actual, reference)


@pytest.mark.parametrize(
    'images, queue_len, size', [(1, 1, 64), (3, 5, 96), (2, 64, 32), (5, 2, 160)]
)
def test_any_batch_size_queue_length_and_view_size_trains(images, queue_len, size):
    model = build(queue_len=queue_len)
    losses = model.loss(*make_batch(size, images))
    total(losses).backward()
    assert torch.isfinite(total(losses))


BACKBONES = {
    'ResNet-18': (dict(type='mmpretrain.ResNet', depth=18), [128, 256, 512]),
    'ResNet-50': (dict(type='mmpretrain.ResNet', depth=50), [512, 1024, 2048]),
    'ConvNeXt-T': (
        dict(type='mmpretrain.ConvNeXt', arch='tiny', gap_before_final_norm=False),
        [192, 384, 768],
    ),
    'RegNetX-400MF': (dict(type='mmpretrain.RegNet', arch='regnetx_400mf'), [64, 160, 384]),
    'MobileNetV2': (dict(type='mmpretrain.MobileNetV2', out_indices=(2, 4, 6)), [32, 96, 320]),
    # C5 is padded, because it is smaller than a window of 7 × 7 cells at this view size
    'Swin-T': (
        dict(type='mmpretrain.SwinTransformer', arch='tiny', pad_small_map=True),
        [192, 384, 768],
    ),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_backbones_with_stage_outputs_train(name):
    backbone, channels = BACKBONES[name]
    config = small_config()
    config['backbone'] = dict(out_indices=(1, 2, 3)) | backbone
    config['neck']['in_channels'] = channels
    model = MODELS.build(config).train()
    losses = model.loss(*make_batch(96, 2))
    total(losses).backward()
    assert torch.isfinite(total(losses))
    named = [*model.backbone.named_parameters(), *model.neck.named_parameters()]
    # MobileNetV2's convolution after C5 is for classification
    unused = [name for name, p in named if p.grad is None and not name.startswith('conv2.')]
    assert unused == []


def test_tensor_mode_returns_the_backbones_stages():
    model = build().eval()
    views, _ = make_batch()
    features = model(views[0], mode='tensor')
    assert [tuple(x.shape) for x in features] == [(4, 32, 8, 8), (4, 64, 4, 4), (4, 128, 2, 2)]
    for actual, reference in zip(model.extract_feat(views[0]), features):
        assert torch.equal(actual, reference)


def test_train_step_preprocesses_and_updates():
    from mmengine.optim import OptimWrapper

    model = build()
    views, samples = make_batch()
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    before = copy.deepcopy(model.backbone.state_dict())
    log = model.train_step(dict(inputs=views, data_samples=samples), optim_wrapper)
    assert log['loss'].item() == pytest.approx(
        sum(log[f'loss_{t}'].item() for t in TERMS), rel=1e-5
    )
    assert not torch.equal(before['conv1.weight'], model.backbone.conv1.weight)


def test_a_level_that_is_only_a_key_still_gets_gradients():
    config = small_config()
    config['head']['terms'] = [dict(query='p3', key='p4', negatives='own_rank')]
    model = MODELS.build(config).train()
    losses = model.loss(*make_batch())
    total(losses).backward()
    assert all(p.grad is not None for p in model.neck.parameters())
    assert model.neck.fpn_convs['2'].conv.weight.grad.abs().sum() == 0


def test_mmdetections_registry_builds_the_model():
    from mmdet.registry import MODELS as MMDET_MODELS
    from mmengine.registry import DefaultScope

    config = small_config()
    config['data_preprocessor'] = dict(mean=[0.0] * 3, std=[1.0] * 3)
    config['type'] = 'mmcrosscl.CrossCL'
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert type(MMDET_MODELS.build(config)).__name__ == 'CrossCL'


def test_the_queue_has_the_necks_feat_dim():
    model = build(**{'neck.feat_dim': 24})
    assert model.queue.keys.shape == (64, 24)
    assert torch.isfinite(total(model.loss(*make_batch())))


def test_a_term_with_an_unknown_level_raises_an_error():
    config = small_config()
    config['head']['terms'].append(dict(query='p5', key='p5', negatives='own_rank'))
    with pytest.raises(InputError, match=r"unknown level 'p5' \(known levels: p4, p3\)"):
        MODELS.build(config)


def test_a_head_with_other_strides_raises_an_error():
    config = small_config()
    terms = config['head']['terms']
    config['head'] = CrossCLHead(terms, strides=dict(p4=16, p3=8))
    assert MODELS.build(config).head.strides == dict(p4=16, p3=8)
    config['head'] = CrossCLHead(terms, strides=dict(p4=8, p3=4))
    with pytest.raises(InputError, match="the head has strides .*; set the head's strides"):
        MODELS.build(config)


def test_levels_can_have_any_name_and_stride():
    config = small_config()
    config['neck']['levels'] = dict(keys=64, fine=8)
    config['head']['terms'] = [
        dict(query='keys', key='fine', negatives='own_rank'),
        dict(query='fine', key='keys', negatives='all_ranks'),
    ]
    model = MODELS.build(config).train()
    losses = model.loss(*make_batch(128))
    total(losses).backward()
    assert losses['loss_keys_fine'] > 0 and losses['loss_fine_keys'] > 0
    assert all(p.grad is not None for p in model.neck.parameters())
    with pytest.raises(InputError, match='view size 96 is not a multiple .* a multiple of 64'):
        model.loss(*make_batch(96))


def predicted(model):
    """Return the normalized views, the samples, and the result of ``test_step``."""
    views, samples = make_batch(key_crop=(0.1, 0.0, 0.8, 0.9))
    data = dict(inputs=views, data_samples=samples)
    return model.data_preprocessor(data)['inputs'], samples, model.test_step(data)


def test_predict_returns_the_query_encoders_features_of_both_views():
    model = build().eval()
    views, given, samples = predicted(model)
    assert samples == given
    for which, view in zip(('query_features', 'key_features'), views):
        expected = model.neck(model.backbone(view))
        for index, sample in enumerate(samples):
            features = sample.get(which)
            assert {name: tuple(x.shape) for name, x in features.items()} == {
                'global': (128,), 'p4': (256, 4, 4), 'p3': (256, 8, 8)
            }  # fmt: skip
            for name, value in features.items():
                assert not value.requires_grad
                torch.testing.assert_close(value, expected[name][index])
    assert samples[0].to_dict()['query_features'].keys() == {'global', 'p4', 'p3'}
    direct = model(views, mode='predict')
    torch.testing.assert_close(direct[1].key_features, samples[1].key_features)


def test_predict_does_not_change_the_state():
    model = build()
    model.loss(*make_batch())
    before = copy.deepcopy(model.eval().state_dict())
    predicted(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_predicted_maps_have_the_region_vectors_of_the_loss():
    model = build().eval()
    views, given, samples = predicted(model)
    rois = torch.from_numpy(paired_rois(given, 'query'))
    maps = model.neck(model.backbone(views[0]))['p4']
    expected = model.head.region_vectors(maps, rois, 'p4')
    own_rois = torch.from_numpy(paired_rois([samples[1]], 'query'))
    vectors = model.head.region_vectors(samples[1].query_features['p4'][None], own_rois, 'p4')
    assert 0 < len(vectors) < 36
    torch.testing.assert_close(vectors, expected[rois[:, 0] == 1])


@pytest.mark.parametrize('size', [100, 63, 48])
def test_a_size_that_is_not_a_multiple_of_every_stride_raises_an_error(size):
    with pytest.raises(InputError, match='multiple of 32'):
        build().loss(*make_batch(size))


def test_views_must_be_two_batches_of_equal_squares():
    views, samples = make_batch()
    for wrong in (views[:1], [views[0], views[1][:2]], [v[..., :32] for v in views]):
        with pytest.raises(InputError, match='two batches of square views of the same size'):
            build().loss(wrong, samples)


def parameters(model):
    return {name: value for name, value in model.state_dict().items() if 'running' not in name}


def test_three_steps_match_the_plain_implementation():
    """The plain implementation is mmcrosscl/oracles/step.py."""
    actual = build(queue_len=10).double()
    plain = build(queue_len=10, channels_last=False).double()
    plain.load_state_dict(actual.state_dict())
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.9) for m in (actual, plain)]
    plain.key_encoder.update(plain.backbone, plain.neck)
    for step in range(3):
        views, samples = make_batch(seed=step, key_crop=(0.1, 0.0, 0.8, 0.9))
        assert 0 < samples[0].paired.sum() < 36
        views = [view.double() for view in views]
        losses = [total(actual.loss(views, samples)), plain_loss(plain, views, samples)]
        torch.testing.assert_close(*losses, rtol=1e-10, atol=0)
        for optimizer, loss in zip(optimizers, losses):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for (name, one), other in zip(parameters(actual).items(), parameters(plain).values()):
        if name != 'key_encoder.steps':
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10, msg=name)


def one_step(model):
    views, samples = make_batch(key_crop=(0.1, 0.0, 0.8, 0.9))
    loss = total(model.loss([view.double() for view in views], samples))
    loss.backward()
    return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.slow
@pytest.mark.parametrize('setting', ['contiguous', 'compiled', 'checkpointed'])
def test_a_setting_for_speed_or_memory_does_not_change_the_result(setting):
    expected = build().double()
    if setting == 'compiled':
        # this backend traces and differentiates, but skips code generation, which takes minutes
        model = build(compile=dict(backend='aot_eager')).double()
    else:
        model = build(channels_last=setting != 'contiguous').double()
    assert model.state_dict().keys() == expected.state_dict().keys()
    model.load_state_dict(expected.state_dict())
    if setting == 'checkpointed':
        turn_on_activation_checkpointing(model, ['backbone.layer1', 'backbone.layer3'])
    for actual, reference in zip(one_step(model), one_step(expected)):
        torch.testing.assert_close(actual, reference, rtol=1e-9, atol=1e-10)
    if setting == 'compiled':
        copy.deepcopy(model).loss(*[[v.double() for v in make_batch()[0]], make_batch()[1]])


def test_weights_and_maps_are_in_channels_last_memory():
    model = build()
    assert model.backbone.layer2[0].conv2.weight.is_contiguous(memory_format=torch.channels_last)
    stages = []
    model.backbone.register_forward_hook(lambda module, args, out: stages.extend((*args, *out)))
    model.loss(*make_batch())
    assert len(stages) == 4
    assert all(stage.is_contiguous(memory_format=torch.channels_last) for stage in stages)


@pytest.mark.gpu
def test_a_step_does_not_wait_for_the_gpu():
    model = build().cuda()
    views, samples = make_batch(key_crop=(0.1, 0.0, 0.8, 0.9))
    views = [view.cuda() for view in views]
    total(model.loss(views, samples)).backward()  # reads `steps` once
    torch.cuda.set_sync_debug_mode('error')
    try:
        total(model.loss(views, samples)).backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.gpu
def test_a_step_on_a_gpu_matches_a_step_on_a_cpu():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    on_cpu = build()
    on_gpu = copy.deepcopy(on_cpu).cuda()
    views, samples = make_batch()
    expected = on_cpu.loss(views, samples)
    losses = on_gpu.loss([v.cuda() for v in views], [s.cuda() for s in samples])
    for term in TERMS:
        assert losses[f'loss_{term}'].item() == pytest.approx(
            expected[f'loss_{term}'].item(), rel=1e-3
        )


@pytest.mark.gpu
def test_mixed_precision_on_a_gpu_is_near_full_precision():
    model = build().cuda()
    twin = copy.deepcopy(model)
    views, samples = make_batch()
    views, samples = [v.cuda() for v in views], [s.cuda() for s in samples]
    full = total(model.loss(views, samples))
    with torch.autocast('cuda'):
        mixed = total(twin.loss(views, samples))
    mixed.backward()
    assert mixed.item() == pytest.approx(full.item(), rel=0.02)
