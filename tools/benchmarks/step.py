"""Benchmark of a training step: forward, backward, optimizer, key encoder and queue."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import Tensor
from torch.profiler import profile

from mmcrosscl.compat.fused_optimizer import without_unsupported_fused
from mmcrosscl.datasets.transforms import RegionPairs, TwoCrops
from mmcrosscl.models import CrossCL
from mmcrosscl.oracles.step import plain_loss
from mmcrosscl.registry import MODELS
from mmcrosscl.structures import ViewPairSample

from .harness import Variant, compare, table

ROOT = Path(__file__).parents[2]
CHECKPOINTED = ['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4']


def report(rounds: int, images: int, size: int, depth: int, compiled: bool) -> str:
    """Compare settings of mmcrosscl's training step with a plain implementation.

    Args:
        rounds (int): Number of measured runs per variant.
        images (int): Number of images in a batch.
        size (int): Side length of the views in pixels.
        depth (int): Depth of the ResNet.
        compiled (bool): Also measure with torch.compile, which takes minutes before the first step.
    """
    common = dict(images=images, size=size, depth=depth)
    variants = [
        Variant('plain', step, dict(common, plain=True)),
        Variant('mmcrosscl, channels-first', step, dict(common, channels_last=False)),
        Variant('+ channels-last', step, common),
        Variant('+ bfloat16', step, dict(common, bfloat16=True)),
        Variant(
            '+ activation checkpointing',
            step,
            dict(common, bfloat16=True, checkpointing=True),
        ),
    ]
    if compiled:
        variants.append(
            Variant(
                'mmcrosscl, bfloat16, torch.compile',
                step,
                dict(common, bfloat16=True, compile=True),
            )
        )
    measured = compare(variants, rounds)
    first = table(
        f'Step: ResNet-{depth}, {images} images, views of {size} pixels',
        ['', 's per step', 'images/s', 'speedup', 'peak MB', 'peak vs. plain'],
        [
            [
                m.name,
                m.median,
                images / m.median,
                m.ratio(measured[0]),
                m.peak,
                f'{100 * m.peak / measured[0].peak:.0f} %',
            ]
            for m in measured
        ],
    )
    rows = []
    for count in (images // 2, images, 2 * images):
        settings = dict(common, images=count)
        plain, fast = compare(
            [
                Variant('plain', step, dict(settings, plain=True)),
                Variant('mmcrosscl', step, dict(settings, bfloat16=True)),
            ],
            max(rounds // 2, 1),
        )
        rows.append([count, count / plain.median, plain.peak, count / fast.median, fast.peak])
    second = table(
        'Speed and peak memory by batch size (mmcrosscl in bfloat16)',
        ['images', 'plain images/s', 'plain MB', 'mmcrosscl images/s', 'mmcrosscl MB'],
        rows,
    )
    third = table(
        'Share of each operation in the CPU or GPU time of a step, in %',
        ['operation', 'fp32', 'bfloat16'],
        operation_shares(common),
    )
    return '\n'.join((first, second, third))


def operation_shares(common: dict, rows: int = 10) -> list[list]:
    """Return the most expensive operations of an fp32 step, and their shares in both precisions."""
    shares = []
    for bfloat16 in (False, True):
        run = step(**common, bfloat16=bfloat16)
        run()
        with profile() as profiled:
            run()
        on_gpu = torch.cuda.is_available()
        times = {
            event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
            for event in profiled.key_averages()
        }
        total = sum(times.values())
        shares.append({name: 100 * spent / total for name, spent in times.items()})
    costliest = sorted(shares[0], key=shares[0].get, reverse=True)[:rows]
    return [[f'`{name}`', *(share.get(name, 0.0) for share in shares)] for name in costliest]


def batch(images: int, size: int, device: str) -> tuple[list[Tensor], list[ViewPairSample]]:
    """Return random views, with region pairs of random crops of 500×375 images."""
    np.random.seed(0)
    torch.manual_seed(0)
    crops, pairs, samples = TwoCrops(), RegionPairs(), []
    for _ in range(images):
        pair = np.array([crops.random_crop(375, 500) for _ in range(2)], dtype=float)
        results = pairs.transform(dict(crops=pair, img_shape=(size, size)))
        samples.append(ViewPairSample.from_results(results))
    return [torch.randn(images, 3, size, size).to(device) for _ in range(2)], samples


def build(depth: int, device: str, **settings) -> CrossCL:
    """Build the published model with a ResNet of another depth."""
    cfg = Config.fromfile(ROOT / 'configs/_base_/models/crosscl_r50_fpn.py').model
    cfg.update(settings)
    cfg.backbone.depth = depth
    if depth < 50:
        cfg.neck.update(in_channels=[128, 256, 512], hid_channels=512)
    torch.manual_seed(0)
    model = MODELS.build(cfg).to(device).train()
    model.key_encoder.update(model.backbone, model.neck)
    return model


def step(
    images: int,
    size: int,
    depth: int,
    plain: bool = False,
    channels_last: bool = True,
    bfloat16: bool = False,
    checkpointing: bool = False,
    compile: bool = False,
) -> Callable[[], object]:
    """Return a function that runs one training step."""
    MMLogger.get_instance('benchmark', log_level='ERROR')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = build(depth, device, channels_last=channels_last and not plain, compile=compile)
    if checkpointing:
        turn_on_activation_checkpointing(model, CHECKPOINTED)
    views, samples = batch(images, size, device)
    schedule = Config.fromfile(ROOT / 'configs/_base_/schedules/sgd_coslr_200e.py')
    schedule.optim_wrapper.optimizer.fused = not plain
    settings = without_unsupported_fused(schedule.optim_wrapper, torch.device(device))
    wrapper = build_optim_wrapper(model, settings)
    # The wrapper also checks the gradients for NaN/Inf, which the plain step does not do.
    optimizer = wrapper.optimizer if plain else wrapper

    def run() -> float:
        with torch.autocast(device, torch.bfloat16) if bfloat16 else nullcontext():
            if plain:
                loss = plain_loss(model, views, samples)
            else:
                losses = model.loss(views, samples)
                loss = sum(value for name, value in losses.items() if name.startswith('loss'))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return run
