"""Overrides of settings by dotted names, with an error that suggests the closest valid name."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import LogProcessor, Runner, TestLoop, ValLoop
from mmengine.utils.dl_utils import set_multi_processing
from torch import distributed
from torch.utils.data import DataLoader

from mmcrosscl.errors import InputError
from mmcrosscl.registry import argument_names, find_component

from .runner.defaults import DEFAULT_HOOKS

# maps the path of a dict without `type` to the function that takes its keys as arguments
READERS: dict[str, Callable] = {
    '': Runner.__init__,
    'train_dataloader': DataLoader.__init__,
    'val_dataloader': DataLoader.__init__,
    'test_dataloader': DataLoader.__init__,
    'optim_wrapper': OptimWrapper.__init__,
    'val_cfg': ValLoop.__init__,
    'test_cfg': TestLoop.__init__,
    'log_processor': LogProcessor.__init__,
    'randomness': Runner.set_randomness,
    'env_cfg.mp_cfg': set_multi_processing,
    'env_cfg.dist_cfg': distributed.init_process_group,
}
# maps the path of a dict to further keys that MMEngine and mmcrosscl read from it
KEYS: dict[str, set[str]] = {
    '': {
        'activation_checkpointing', 'compile', 'efficient_conv_bn_eval', 'find_unused_parameters',
        'model_wrapper_cfg', 'new_run_load_from', 'pretrained', 'runner_type', 'sync_bn',
        'trust_checkpoints',
    },
    'env_cfg': {'cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'},
    'auto_scale_lr': {'base_batch_size', 'enable'},
    'default_hooks': {'runtime_info', *DEFAULT_HOOKS},
}  # fmt: skip
for _loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
    KEYS[_loader] = {'disable_subprocess_warning', 'num_batch_per_epoch'}


def merge_options(cfg: Config, options: Mapping[str, object]) -> None:
    """Override settings of a config, in place.

    Args:
        cfg (Config): The config, which is changed only if all options are valid.
        options (Mapping): Maps dotted names to values. A number in a name is an index in a list. A
            name is valid if the config has this setting, or if the setting is an argument of the
            component that the surrounding dict configures. A leading ``+`` adds any other setting.

    Raises:
        InputError: If a name or an index is not valid. For a name, the message suggests the closest
            valid name.
    """
    # MMEngine cannot write a config with objects
    options = {n: str(value) if isinstance(value, Path) else value for n, value in options.items()}
    settings = {name.removeprefix('+'): value for name, value in options.items()}
    merged = cfg.copy()
    try:
        merged.merge_from_dict(settings)
    except (KeyError, TypeError) as error:
        raise InputError(f'--cfg-options {" ".join(options)}: {error.args[0]}') from error
    with DefaultScope.overwrite_default_scope(merged.get('default_scope', 'mmengine')):
        for name, value in options.items():
            if not name.startswith('+'):
                _check(name, value, cfg, merged)
    cfg.merge_from_dict(settings)


def _check(name: str, value: object, before: Any, after: Any) -> None:
    """Raise an InputError unless the config or a component has a setting of this name."""
    parts = name.split('.')
    for position, part in enumerate(parts):
        if isinstance(before, list | tuple):
            # merge_from_dict has already rejected an index that is out of range
            before, after = before[int(part)], after[int(part)]
            continue
        if not isinstance(before, dict | Config):
            # the option replaces None or a plain value by a dict, whose keys cannot be checked
            return
        path = '.'.join(parts[:position])
        if path == 'default_hooks' and part in DEFAULT_HOOKS:
            # the runner merges the config's settings of a default hook with its default settings
            before = {**DEFAULT_HOOKS, **before}
            after = {part: {**DEFAULT_HOOKS[part], **(after[part] or {})}}
        if part not in before:
            known = _known(path, before, after)
            if known is not None and part not in known:
                _refuse(name, parts, position, known, value)
            return
        before, after = before[part], after[part]


def _known(path: str, before: Mapping, after: Mapping) -> set[str] | None:
    """Return the valid keys of the dict at a path, or None if every key is valid."""
    known = {key for key in before.keys() if not key.startswith('_')} | KEYS.get(path, set())
    if (kind := after.get('type')) is not None:
        reader = find_component(kind)
        # the registry raises an error for an unknown component when it builds the component
        names = None if reader is None else argument_names(reader)
    else:
        names = argument_names(READERS[path]) if path in READERS else set()
    if names is None:
        return None
    return known | names | {'type', '_delete_'}


def _refuse(name: str, parts: list[str], position: int, known: set[str], value: object) -> None:
    close = get_close_matches(parts[position], known, n=1)
    if close:
        right = '.'.join([*parts[:position], close[0], *parts[position + 1 :]])
        hint = f'did you mean {right}?'
    else:
        owner = '.'.join(parts[:position]) or 'the config'
        hint = f'the valid settings of {owner} are {", ".join(sorted(known))}.'
    shown = value if not isinstance(value, ConfigDict | dict | list | tuple) else '…'
    raise InputError(f'unknown setting {name}: {hint} To add it on purpose, write +{name}={shown}')
