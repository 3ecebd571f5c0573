"""Rebuilds the model and the batches of the reference values in tests/data."""

import json
import math
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcrosscl.checkpoints import convert
from mmcrosscl.datasets.transforms import windows
from mmcrosscl.models import CrossCL
from mmcrosscl.registry import MODELS
from mmcrosscl.structures import ViewPairSample
from tests.models.builders import model_config

DATA = Path(__file__).parents[1] / 'data'
QUEUE, BATCH, SIZE = 256, 4, 224


def load(name: str) -> dict:
    return json.loads((DATA / name).read_text())['ranks'][0]


def reference_names(model: CrossCL) -> dict[str, str]:
    """Map the names of the query encoder's parameters to the names in the reference."""
    tail = {'global': 'fc', 'lateral_convs': 'fpn_lateral', 'fpn_convs': 'fpn_output'}
    names = {}
    for actual, _ in model.named_parameters():
        part, _, rest = actual.partition('.')
        if part == 'backbone':
            names[actual] = rest
        elif part == 'neck':
            words = rest.split('.')
            if words[0] == 'projection':
                names[actual] = f'fc.{words[2]}.{words[3]}'
            else:
                names[actual] = f'{tail[words[0]]}{int(words[1]) + 2}.{words[3]}'
    return names


def random_value(name: str, like: Tensor) -> Tensor:
    """Return the value of an encoder tensor from its name in the reference's checkpoint."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if name.endswith(('running_mean', 'running_var', 'num_batches_tracked')):
        return like
    noise = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    if like.dim() >= 2:
        return noise * math.sqrt(2 / like[0].numel())
    return 1 + 0.1 * noise if name.endswith('weight') else 0.05 * noise


def build(roi_layer: dict) -> CrossCL:
    """Return the model in float64 and train mode, with the initial weights of the reference."""
    model = MODELS.build(model_config(depth=50, queue_len=QUEUE, roi_layer=roi_layer)).double()
    state = {}
    names = reference_names(model)
    for actual, value in [
        *model.backbone.state_dict(prefix='backbone.').items(),
        *model.neck.state_dict(prefix='neck.').items(),
    ]:
        reference = names.get(actual, actual.removeprefix('backbone.'))
        for encoder in ('encoder_q', 'encoder_k'):
            # the key encoder starts as a copy, so both encoders get the query encoder's values
            state[f'module.{encoder}.{reference}'] = random_value(f'encoder_q.{reference}', value)
    generator = torch.Generator().manual_seed(7)
    state['module.queue'] = F.normalize(
        torch.randn(128, QUEUE, generator=generator, dtype=torch.float64), dim=0
    )
    state['module.queue_ptr'] = torch.zeros(1, dtype=torch.long)
    model.load_state_dict(convert(state, 'crosscl').state_dict)
    return model.train()


def batch(step: int) -> tuple[list[Tensor], list[ViewPairSample]]:
    """Return the views and the samples of a step, rebuilt from a seed."""
    generator = torch.Generator().manual_seed(1000 + 10 * step)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    base = F.interpolate(
        randn(BATCH, 3, SIZE // 8, SIZE // 8), scale_factor=8, mode='bilinear', align_corners=False
    )
    views = [base + 0.3 * randn(BATCH, 3, SIZE, SIZE) for _ in range(2)]
    query_regions = windows(SIZE)
    zoom = 0.7 + 0.6 * rand(BATCH, 1, 1)
    shift = (rand(BATCH, 1, 2) - 0.3) * 112
    key_regions = torch.tensor(query_regions) * zoom + torch.cat((shift, shift), dim=2)
    paired = ((key_regions >= 0) & (key_regions < SIZE)).all(dim=2)
    samples = [
        ViewPairSample(query_regions=query_regions, key_regions=regions, paired=valid)
        for regions, valid in zip(key_regions.numpy(), paired.numpy())
    ]
    return views, samples
