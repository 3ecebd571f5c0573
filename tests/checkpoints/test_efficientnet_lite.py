import pytest
import torch
from mmengine.registry import DefaultScope
from skimage import data
from torch import nn
from torch.nn import functional as F

from mmcrosscl.checkpoints import (
    convert_for_model,
    model_input_format,
    read_checkpoint,
    write_efficientnet_lite0,
)
from mmcrosscl.checkpoints.efficientnet_lite import rename, weights_file
from mmcrosscl.engine import read_config
from mmcrosscl.registry import MODELS

CONFIG = 'configs/detection/faster-rcnn_efficientnet-lite0_scenes.py'
# ImageNet's numbers of the cats and of espresso
CATS, ESPRESSO = range(281, 286), 967


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'new/lite0.pth'
    write_efficientnet_lite0(path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(read_config(CONFIG).model)
    conversion = convert_for_model(read_checkpoint(path), model)
    assert model_input_format(model) == conversion.input_format
    assert not conversion.notes and not conversion.warnings
    loaded = model.load_state_dict(conversion.state_dict, strict=False)
    assert not any(name.startswith('backbone.') for name in loaded.missing_keys)
    return model.eval()


@pytest.mark.slow(15)
@pytest.mark.parametrize(('image', 'classes'), [('chelsea', CATS), ('coffee', [ESPRESSO])])
def test_the_backbone_with_the_head_of_the_file_classifies(detector, image, classes):
    photo = torch.from_numpy(getattr(data, image)()).permute(2, 0, 1)[None]
    # MMDetection reads BGR images
    views = F.interpolate(photo.flip(1).float(), (224, 224), mode='bilinear', antialias=True)
    inputs = detector.data_preprocessor(dict(inputs=[views[0]], data_samples=[]))['inputs']
    file = read_checkpoint(weights_file())
    norm = nn.BatchNorm2d(1280).eval()
    norm.load_state_dict({n: file[f'_bn1.{n}'] for n in norm.state_dict()})
    with torch.no_grad():
        c5 = detector.backbone(inputs)[-1]
        pooled = F.relu6(norm(F.conv2d(c5, file['_conv_head.weight']))).mean((2, 3))
        scores = F.linear(pooled, file['_fc.weight'], file['_fc.bias'])
    assert int(scores.argmax()) in classes


def test_weights_that_do_not_correspond_are_one_sentence():
    with pytest.raises(ValueError, match='_conv_stem.weight does not correspond to'):
        rename({'_conv_stem.weight': torch.zeros(3)})
