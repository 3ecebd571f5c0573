"""Runs a training step again that ended training, and looks where the numbers went wrong."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmcrosscl.checkpoints import read_checkpoint
from mmcrosscl.errors import InputError


def replay(cfg: Config, path: str | Path) -> str:
    """Run the step that :class:`NonFiniteHook` wrote, on the CPU, forwards and backwards.

    Negatives that came from other ranks are not in the file; those of its own rank stand for them.
    ``AmpOptimWrapper`` needs a GPU; its step is run in float32.

    Args:
        cfg (Config): The run's config.
        path (str | Path): What the hook wrote.

    Returns:
        str: Lines for the reader: the images, the losses, the first module whose output is not
        finite, and the weights whose gradients are not.

    Raises:
        InputError: If the file is no such one, or its weights are not the config's model's.
    """
    record = read_checkpoint(path, cfg.get('trust_checkpoints', False))
    if missing := {'meta', 'state_dict', 'inputs', 'samples'} - record.keys():
        raise InputError(
            f'{path} has no {", ".join(sorted(missing))}; name a non_finite_iter_*.pth file'
        )
    DefaultScope.get_instance('replay', scope_name=cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(cfg.model)
    try:
        model.load_state_dict(record['state_dict'])
    except RuntimeError as error:
        raise InputError(
            f"{path} has other weights than the config's model; name the config of its run, with "
            'its --cfg-options'
        ) from error
    settings = cfg.optim_wrapper
    if settings.get('type') == 'AmpOptimWrapper':
        settings = dict(type='OptimWrapper', optimizer=settings.optimizer)
    wrapper = build_optim_wrapper(model, settings)
    model.train()
    blame: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(_watch(name or type(model).__name__, blame))
    samples = [_sample(fields) for fields in record['samples']]
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


def _sample(fields: dict) -> DataSample:
    sample = DataSample()
    for name, value in fields.items():
        if name in ('query_regions', 'key_regions', 'paired'):
            sample.set_field(value.numpy(), name)
        elif name == 'photometric':
            sample.set_field([tuple(map(tuple, plan)) for plan in value], name)
        else:
            sample.set_metainfo({name: value})
    return sample


def _images(record: dict) -> list[str]:
    meta = record['meta']
    lines = [f'iteration {meta["iter"] + 1}, epoch {meta["epoch"] + 1}, rank {meta["rank"]}:']
    for sample in record['samples']:
        crops = sample['crops'].int().tolist()
        lines.append(f'  {sample["img_path"]}, crops {crops[0]} and {crops[1]}')
    return lines


def _findings(model: nn.Module, values: dict[str, Tensor], blame: list[str]) -> list[str]:
    lines = [f'{name}: {float(value):.6g}' for name, value in values.items()]
    lines.append(f'first output that is not finite: {blame[0] if blame else "none"}')
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    bad = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    shown = ', '.join(bad[:3]) + (' …' if len(bad) > 3 else '')
    count = f'{len(bad)} of {len(gradients)}'
    lines.append(f'gradients that are not finite: {count}{": " if bad else ""}{shown}')
    return lines
