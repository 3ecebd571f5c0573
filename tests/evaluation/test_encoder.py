import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmcrosscl.checkpoints import convert_file, stored_config
from mmcrosscl.errors import InputError
from mmcrosscl.evaluation import load_encoder, untrained_encoder
from tests.checkpoints.makers import moco
from tests.evaluation.checkpoints import DETECTOR, write_crosscl, write_detector
from tests.models.builders import model_config

VIEWS = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)


def test_levels_of_crosscl_are_those_of_its_query_encoder(tmp_path):
    path = write_crosscl(tmp_path / 'epoch_1.pth')
    levels, stages = load_encoder(path).encode(VIEWS)
    model = MODELS.build(model_config(width=16)).eval()
    model.load_state_dict(torch.load(path, weights_only=True)['state_dict'])
    inputs = model.data_preprocessor(dict(inputs=[VIEWS] * 2, data_samples=[{}, {}]))['inputs'][0]
    with torch.no_grad():
        expected = model.neck(model.backbone(inputs))
    assert set(levels) == {'p3', 'p4'} and list(stages) == ['c3', 'c4', 'c5']
    for name, x in levels.items():
        assert torch.allclose(x, expected[name], atol=1e-4 * float(expected[name].abs().max()))


def test_levels_of_a_detector_are_those_of_its_neck(tmp_path):
    path = write_detector(tmp_path / 'iter_1.pth')
    levels, stages = load_encoder(path).encode(VIEWS)
    checkpoint = torch.load(path, weights_only=True)
    cfg = Config(stored_config(checkpoint))
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model).eval()
    model.load_state_dict(checkpoint['state_dict'])
    # the detector reads BGR images
    batch = dict(inputs=list(VIEWS.flip(1)), data_samples=None)
    with torch.no_grad():
        expected = model.extract_feat(model.data_preprocessor(batch)['inputs'])
    assert list(levels) == ['p3', 'p4', 'p5'] and list(stages) == ['c2', 'c3', 'c4', 'c5']
    for found, x in zip(levels.values(), expected):
        assert torch.allclose(found, x, atol=1e-4 * float(x.abs().max()))


def test_a_converted_checkpoint_needs_the_config(tmp_path):
    source, target = write_detector(tmp_path / 'a.pth'), tmp_path / 'b.pth'
    convert_file(source, target, 'mmdet')
    with pytest.raises(InputError, match=r'b\.pth contains no config of a model; .* --config'):
        load_encoder(target)
    levels, _ = load_encoder(target, DETECTOR).encode(VIEWS)
    # the conversion renumbers the pyramid from C2, so only common levels are equal
    assert set(levels) <= {'p3', 'p4', 'p5'}


def test_a_checkpoint_without_the_neck_is_compared_by_its_stages(tmp_path):
    torch.save(moco(2), tmp_path / 'moco.pth')
    levels, stages = load_encoder(tmp_path / 'moco.pth', DETECTOR).encode(VIEWS)
    assert levels == {} and list(stages) == ['c2', 'c3', 'c4', 'c5']


def test_an_untrained_model_is_the_same_in_every_process_and_keeps_the_random_state(tmp_path):
    path = write_crosscl(tmp_path / 'epoch_1.pth')
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = untrained_encoder(path).state_dict()
    assert torch.rand(1) == expected
    second = untrained_encoder(path).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    trained = load_encoder(path).state_dict()
    name = 'backbone.layer1.0.conv1.weight'
    assert not torch.equal(first[name], trained[name])


def test_an_untrained_model_downloads_nothing(tmp_path):
    # the config loads ImageNet weights from the network
    levels, _ = untrained_encoder(None, 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py').encode(
        VIEWS
    )
    assert list(levels) == ['p3', 'p4', 'p5', 'p6', 'p7']


def test_code_in_a_stored_config_is_not_run(tmp_path):
    path = write_crosscl(tmp_path / 'epoch_1.pth')
    checkpoint = torch.load(path, weights_only=True)
    evil = f"model = dict(type='mmcrosscl.CrossCL', momentum=open('{tmp_path}/ran', 'w'))\n"
    checkpoint['meta']['cfg'] = evil
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match='contains code, which is not run; .* --config'):
        load_encoder(path)
    assert not (tmp_path / 'ran').exists()


def test_a_component_that_is_not_registered_is_named(tmp_path):
    path = write_detector(tmp_path / 'a.pth')
    checkpoint = torch.load(path, weights_only=True)
    text = checkpoint['meta']['cfg'].replace("type='FPN'", "type='MyNeck'")
    checkpoint['meta']['cfg'] = text
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match=r'MyNeck.*--config'):
        load_encoder(path)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    torch.save(moco(2, depth=50), tmp_path / 'moco.pth')
    with pytest.raises(InputError, match=r'moco\.pth: .*backbone'):
        load_encoder(tmp_path / 'moco.pth', DETECTOR)
