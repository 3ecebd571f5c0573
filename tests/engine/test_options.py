"""Overrides of settings: valid names, unknown names and error messages."""

import pytest
from mmengine.config import Config

from mmcrosscl.engine import merge_options
from mmcrosscl.errors import InputError

PRETRAIN = 'configs/crosscl/r50_8xb32-multi-scale_in1k.py'
DETECTOR = 'configs/detection/mask-rcnn_r50_fpn_1x_coco.py'


def merged(options, config=PRETRAIN):
    cfg = Config.fromfile(config)
    merge_options(cfg, options)
    return cfg


@pytest.mark.parametrize(
    'name, value',
    [
        ('train_dataloader.batch_size', 16),
        ('train_dataloader.prefetch_factor', 4),
        ('train_dataloader.dataset.ann_file', 'list.txt'),
        ('train_dataloader.dataset.pipeline.1.scale', 96),
        ('train_dataloader.dataset.pipeline.1.aspect_ratio_range', (0.5, 2)),
        ('custom_hooks.0.scales', [32, 64]),
        ('model.compile', True),
        ('model.backbone.drop_path_rate', 0.1),
        ('model.backbone.base_channels', 4),
        ('optim_wrapper.clip_grad.max_norm', 5),
        ('optim_wrapper.optimizer.nesterov', True),
        ('default_hooks.checkpoint.interval', 5),
        ('default_hooks.non_finite.limit', 5),
        ('default_hooks.preemption', None),
        ('env_cfg.dist_cfg.timeout', 15),
        ('env_cfg.resource_limit', 10),
        ('randomness.diff_rank_seed', True),
        ('activation_checkpointing', ['backbone.layer1']),
        ('find_unused_parameters', True),
        ('log_processor.window_size', 10),
        ('val_cfg.type', 'ValLoop'),
        ('load_from', 'x.pth'),
        ('train_cfg.val_interval', 2),
    ],
)
def test_settings_that_the_config_or_a_component_has_are_set(name, value):
    node = merged({name: value})
    for part in name.split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == value


@pytest.mark.parametrize(
    'name, closest',
    [
        ('train_dataloder.batch_size', 'train_dataloader.batch_size'),
        ('train_dataloader.batchsize', 'train_dataloader.batch_size'),
        ('model.momentm', 'model.momentum'),
        ('model.neck.out_chanels', 'model.neck.out_channels'),
        ('model.backbone.dept', 'model.backbone.depth'),
        ('optim_wrapper.optimizer.l', 'optim_wrapper.optimizer.lr'),
        ('default_hooks.logger.intervall', 'default_hooks.logger.interval'),
        ('default_hooks.non_finit.limit', 'default_hooks.non_finite.limit'),
        ('custom_hooks.0.scale', 'custom_hooks.0.scales'),
        ('train_dataloader.dataset.pipeline.1.scal', 'train_dataloader.dataset.pipeline.1.scale'),
        ('train_cfg.max_epoch', 'train_cfg.max_epochs'),
        ('randomness.sed', 'randomness.seed'),
        ('env_cfg.dist_cfg.timout', 'env_cfg.dist_cfg.timeout'),
    ],
)
def test_the_error_for_a_misspelled_name_suggests_the_closest_name(name, closest):
    cfg = Config.fromfile(PRETRAIN)
    before = cfg.to_dict()
    with pytest.raises(InputError) as caught:
        merge_options(cfg, {name: 2})
    message = str(caught.value)
    assert message == (
        f'unknown setting {name}: did you mean {closest}? To add it on purpose, write +{name}=2'
    )
    assert cfg.to_dict() == before


def test_the_error_for_a_name_without_a_close_match_lists_all_valid_names():
    with pytest.raises(InputError, match='unknown setting model.head.loss.zzz: .*temperature'):
        merged({'model.head.loss.zzz': 1})


def test_a_leading_plus_adds_an_unknown_setting():
    assert merged({'+my_variable': 3}).my_variable == 3
    assert merged({'+model.momentm': 1}).model.momentm == 1


def test_a_type_in_the_same_options_determines_the_valid_names():
    options = {'train_cfg.max_iters': 10, 'train_cfg.type': 'IterBasedTrainLoop'}
    assert merged(options).train_cfg.max_iters == 10
    with pytest.raises(InputError, match='unknown setting train_cfg.max_iters'):
        merged({'train_cfg.max_iters': 10})


def test_settings_of_a_detector():
    cfg = merged({'model.rpn_head.num_convs': 2, 'pretrained': None}, DETECTOR)
    assert cfg.model.rpn_head.num_convs == 2
    with pytest.raises(InputError, match=r'did you mean model.roi_head.bbox_head.num_classes\?'):
        merged({'model.roi_head.bbox_head.num_class': 2}, DETECTOR)


@pytest.mark.parametrize('options', [{'custom_hooks.7.scales': [1]}, {'custom_hooks.x.scales': 1}])
def test_a_wrong_index_is_an_input_error(options):
    with pytest.raises(InputError, match='--cfg-options custom_hooks'):
        merged(options)
