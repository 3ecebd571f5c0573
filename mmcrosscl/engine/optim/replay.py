"""Replay of a NaN/Inf training step, which finds the first module with a NaN/Inf output."""

from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, OPTIM_WRAPPERS, DefaultScope
from torch import Tensor, nn

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.compat.fused_optimizer import without_unsupported_fused
from mmcrosscl.errors import InputError
from mmcrosscl.registry import component_class
from mmcrosscl.structures import ViewPairSample


def replay(cfg: Config, path: str | Path) -> str:
    """Rerun the forward and backward pass of a NaN/Inf step on the CPU.

    The file contains the negatives of one rank. In the replay, these negatives replace the
    negatives of the other ranks. A step of ``AmpOptimWrapper`` is rerun in float32, because float16
    needs a GPU.

    Args:
        cfg (Config): The config of the run.
        path (str | Path): The ``.pth`` file that :class:`NonFiniteHook` wrote.

    Returns:
        str: Text with the images, the losses, the first module with a NaN/Inf output, and the
        weights with NaN/Inf gradients.

    Raises:
        InputError: If :class:`NonFiniteHook` did not write the file, or if the weights in the file
            do not fit the config's model.
    """
    record = read_checkpoint(path, cfg.get('trust_checkpoints', False))
    if missing := {'meta', 'state_dict', 'inputs', 'samples'} - record.keys():
        raise InputError(
            f'{path} has no {", ".join(sorted(missing))}; pass a non_finite_iter_*.pth file'
        )
    settings = cfg.optim_wrapper
    kind = component_class(OPTIM_WRAPPERS, settings.get('type', 'OptimWrapper'))
    if kind is AmpOptimWrapper:
        settings = dict(type='OptimWrapper', optimizer=settings.optimizer)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        model = MODELS.build(cfg.model)
        settings = without_unsupported_fused(settings, torch.device('cpu'))
        wrapper = build_optim_wrapper(model, settings)
    try:
        model.load_state_dict(record['state_dict'])
    except RuntimeError as error:
        raise InputError(
            f"the weights in {path} do not fit the config's model; pass the config and the "
            '--cfg-options of the run that wrote this file'
        ) from error
    model.train()
    bad_modules: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(_watch(name or type(model).__name__, bad_modules))
    samples = [ViewPairSample.from_record(fields) for fields in record['samples']]
    data = dict(inputs=record['inputs'], data_samples=samples)
    torch.manual_seed(record['meta']['seed'])
    with wrapper.optim_context(model):
        data = model.data_preprocessor(data, training=True)
        losses = model(**data, mode='loss')
    total, values = model.parse_losses(losses)
    wrapper.backward(total)
    return '\n'.join([*_images(record), *_findings(model, values, bad_modules)])


def _watch(name: str, bad_modules: list[str]):
    def check(module: nn.Module, args: tuple, output: object) -> None:
        outputs = output.values() if isinstance(output, dict) else output
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        if not isinstance(outputs, list | tuple | type({}.values())):
            return
        if any(isinstance(x, Tensor) and not x.isfinite().all() for x in outputs):
            bad_modules.append(name)

    return check


def _images(record: Mapping) -> list[str]:
    meta = record['meta']
    lines = [f'iteration {meta["iter"] + 1}, epoch {meta["epoch"] + 1}, rank {meta["rank"]}:']
    for sample in record['samples']:
        crops = sample['crops'].int().tolist()
        lines.append(f'  {sample["img_path"]}, crops {crops[0]} and {crops[1]}')
    return lines


def _findings(model: nn.Module, values: dict[str, Tensor], bad_modules: list[str]) -> list[str]:
    lines = [f'{name}: {float(value.detach()):.6g}' for name, value in values.items()]
    lines.append(f'first NaN/Inf output: {bad_modules[0] if bad_modules else "none"}')
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    bad = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    shown = ', '.join(bad[:3]) + (' …' if len(bad) > 3 else '')
    count = f'{len(bad)} of {len(gradients)}'
    lines.append(f'NaN/Inf gradients: {count}{": " if bad else ""}{shown}')
    return lines
