"""Reruns a training step that was NaN/Inf, and finds the first module with such an output."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, OPTIM_WRAPPERS, DefaultScope
from torch import Tensor, nn

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.errors import InputError
from mmcrosscl.registry import component_class
from mmcrosscl.structures import ViewPairSample


def replay(cfg: Config, path: str | Path) -> str:
    """Run forward and backward of the step that :class:`NonFiniteHook` wrote, on the CPU.

    The file has the negatives of its own rank only; they replace those of other ranks.
    ``AmpOptimWrapper`` needs a GPU; its step is run in float32.

    Args:
        cfg (Config): The run's config.
        path (str | Path): The ``.pth`` file that the hook wrote.

    Returns:
        str: A text with the images, the losses, the first module whose output is NaN/Inf, and the
        weights whose gradients are.

    Raises:
        InputError: If the file is not one of these, or its weights do not fit the config's model.
    """
    record = read_checkpoint(path, cfg.get('trust_checkpoints', False))
    if missing := {'meta', 'state_dict', 'inputs', 'samples'} - record.keys():
        raise InputError(
            f'{path} has no {", ".join(sorted(missing))}; name a non_finite_iter_*.pth file'
        )
    settings = cfg.optim_wrapper
    kind = component_class(OPTIM_WRAPPERS, settings.get('type', 'OptimWrapper'))
    if kind is AmpOptimWrapper:
        settings = dict(type='OptimWrapper', optimizer=settings.optimizer)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, settings)
    try:
        model.load_state_dict(record['state_dict'])
    except RuntimeError as error:
        raise InputError(
            f"{path} has other weights than the config's model; name the config of its run, with "
            'its --cfg-options'
        ) from error
    model.train()
    blame: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(_watch(name or type(model).__name__, blame))
    samples = [ViewPairSample.from_record(fields) for fields in record['samples']]
    data = dict(inputs=record['inputs'], data_samples=samples)
    torch.manual_seed(record['meta']['seed'])
    with wrapper.optim_context(model):
        data = model.data_preprocessor(data, training=True)
        losses = model(**data, mode='loss')
    total, values = model.parse_losses(losses)
    wrapper.backward(total)
    return '\n'.join([*_images(record), *_findings(model, values, blame)])


def _watch(name: str, blame: list[str]):
    def look(module: nn.Module, args: tuple, output: object) -> None:
        outputs = output.values() if isinstance(output, dict) else output
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        if not isinstance(outputs, list | tuple | type({}.values())):
            return
        if any(isinstance(x, Tensor) and not x.isfinite().all() for x in outputs):
            blame.append(name)

    return look


def _images(record: dict) -> list[str]:
    meta = record['meta']
    lines = [f'iteration {meta["iter"] + 1}, epoch {meta["epoch"] + 1}, rank {meta["rank"]}:']
    for sample in record['samples']:
        crops = sample['crops'].int().tolist()
        lines.append(f'  {sample["img_path"]}, crops {crops[0]} and {crops[1]}')
    return lines


def _findings(model: nn.Module, values: dict[str, Tensor], blame: list[str]) -> list[str]:
    lines = [f'{name}: {float(value):.6g}' for name, value in values.items()]
    lines.append(f'first NaN/Inf output: {blame[0] if blame else "none"}')
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    bad = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    shown = ', '.join(bad[:3]) + (' …' if len(bad) > 3 else '')
    count = f'{len(bad)} of {len(gradients)}'
    lines.append(f'NaN/Inf gradients: {count}{": " if bad else ""}{shown}')
    return lines
