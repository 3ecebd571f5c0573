import pytest
from mmengine.config import Config

from mmcrosscl.engine import read_config
from mmcrosscl.errors import InputError
from mmcrosscl.studies.fine_tuning import Labels, fine_tuning_config, learning_rate

LABELS = dict(train=Labels('a.json', 'a'), val=Labels('b.json', 'b'), test=Labels('c.json', 'c'))
CLASSES = ('cat', 'dog')


def config(name: str, **settings) -> Config:
    return fine_tuning_config(read_config(name), name, CLASSES, 100, **LABELS, **settings)


@pytest.mark.parametrize(
    ('name', 'heads'),
    [
        ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', ['roi_head', 'bbox_head']),
        ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', ['bbox_head']),
        ('mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', ['bbox_head']),
        ('mmdet::yolox/yolox_s_8xb8-300e_coco.py', ['bbox_head']),
        ('mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', ['bbox_head']),
    ],
)
def test_any_detector_is_adapted_to_the_labels(name, heads):
    original, cfg = read_config(name), config(name, batch_size=2)
    head = cfg.model
    for part in heads:
        head = head[part]
    assert head.num_classes == 2
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    assert dataset.type == 'mmdet.CocoDataset' and dataset.ann_file == 'a.json'
    assert dataset.data_prefix.img == 'a' and tuple(dataset.metainfo.classes) == CLASSES
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.val_dataloader.dataset.ann_file == cfg.val_evaluator.ann_file == 'b.json'
    assert cfg.test_dataloader.dataset.ann_file == cfg.test_evaluator.ann_file == 'c.json'
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == 100
    assert cfg.optim_wrapper.optimizer == original.optim_wrapper.optimizer
    # every layer is trained from random weights
    assert cfg.model.backbone.get('frozen_stages', -1) == -1
    assert 'init_cfg' not in cfg.model.backbone or 'checkpoint' not in cfg.model.backbone.init_cfg
    # the text of the config can be written and read
    assert Config.fromstring(cfg.pretty_text, '.py').train_cfg == cfg.train_cfg


def test_the_weights_of_the_config_are_kept_on_request():
    name = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    kept = config(name, keep_weights=True)
    assert kept.model.backbone.init_cfg.checkpoint == 'torchvision://resnet50'
    own = 'configs/detection/mask-rcnn_r50_fpn_1x_coco.py'
    assert config(own, keep_weights=True).pretrained
    dropped = config(own)
    assert 'pretrained' not in dropped and 'pretrained' not in dropped.default_hooks


def test_weights_of_the_whole_detector_are_dropped_too():
    name = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    detector = read_config(name)
    checkpoint = dict(type='Pretrained', checkpoint='detector.pth')
    detector.model.init_cfg = detector.model.bbox_head.init_cfg = checkpoint
    for keep in (False, True):
        cfg = fine_tuning_config(detector, name, CLASSES, 100, **LABELS, keep_weights=keep)
        assert ('init_cfg' in cfg.model) == ('init_cfg' in cfg.model.bbox_head) == keep


def test_the_learning_rate_is_scaled_to_the_batch():
    cfg = read_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    # 0.01 for 16 images
    assert learning_rate(cfg, 4) == pytest.approx(0.0025)
    # 0.004 for 256 images, although the config inherits a base_batch_size of 16
    rtmdet = read_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py')
    assert learning_rate(rtmdet, 32) == pytest.approx(0.0005)


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('train_dataloader', 'has no train_dataloader'),
        ('optim_wrapper', 'has no optim_wrapper'),
    ],
)
def test_an_incomplete_config_is_refused(key, message):
    cfg = read_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg[key] = None
    with pytest.raises(InputError, match=message):
        fine_tuning_config(cfg, 'my.py', CLASSES, 100, **LABELS)


def test_a_semi_supervised_detector_is_refused():
    name = 'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
    with pytest.raises(InputError, match='SoftTeacher .*; pass the config of its .* FasterRCNN'):
        fine_tuning_config(read_config(name), name, CLASSES, 100, **LABELS)


def test_scores_are_logged_to_files_whatever_the_config_logs_to(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("""
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
vis_backends = [dict(type='TensorboardVisBackend')]
visualizer = dict(vis_backends=vis_backends)
""")
    assert config(str(path)).visualizer.vis_backends == [dict(type='LocalVisBackend')]


def test_the_hook_that_loads_weights_is_removed_from_all_hooks(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("""
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
pretrained = 'a.pth'
custom_hooks = [dict(type='mmcrosscl.PretrainedHook'), dict(type='EMAHook')]
""")
    assert config(str(path)).custom_hooks == [dict(type='EMAHook')]
    assert len(config(str(path), keep_weights=True).custom_hooks) == 2
