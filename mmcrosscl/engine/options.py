"""Overrides of settings by dotted names; an unknown name is an error with the closest valid one."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches

from mmengine import registry as registries
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import LogProcessor, Runner, TestLoop, ValLoop
from mmengine.utils.dl_utils import set_multi_processing
from torch import distributed
from torch.utils.data import DataLoader

from mmcrosscl.errors import InputError

from .runner.defaults import DEFAULT_HOOKS

# what reads the keys of a dict that has no `type`, by the dict's name
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
# further keys that MMEngine and mmcrosscl read there
KEYS: dict[str, set[str]] = {
    '': {
        'activation_checkpointing', 'compile', 'efficient_conv_bn_eval', 'find_unused_parameters',
        'model_wrapper_cfg', 'pretrained', 'runner_type', 'sync_bn', 'trust_checkpoints',
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
        cfg (Config): Changed only if all options are valid.
        options (Mapping): Value by dotted name; a number is the index in a list. A name must be in
            the config, or an argument of the component whose settings it is in. A leading ``+``
            adds any other setting.

    Raises:
        InputError: If a name is unknown; the message has the closest valid one.
    """
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


def _check(name: str, value: object, before: object, after: object) -> None:
    """Raise unless the config or a component knows the name."""
    parts = name.split('.')
    for place, part in enumerate(parts):
        if isinstance(before, list | tuple):
            # an index out of range failed when the options were merged
            before, after = before[int(part)], after[int(part)]
            continue
        if not isinstance(before, dict | Config):
            # the setting was None or a plain value, and becomes a dict
            return
        path = '.'.join(parts[:place])
        if path == 'default_hooks' and part in DEFAULT_HOOKS:
            # the config's settings of a hook are merged with these
            before = {**DEFAULT_HOOKS, **before}
            after = {part: {**DEFAULT_HOOKS[part], **(after[part] or {})}}
        if part not in before:
            known = _known(path, before, after)
            if known is not None and part not in known:
                _refuse(name, parts, place, known, value)
            return
        before, after = before[part], after[part]


def _known(path: str, before: Mapping, after: Mapping) -> set[str] | None:
    """Return the valid keys of the dict at a path, or None if any key may be."""
    known = {key for key in before.keys() if not key.startswith('_')} | KEYS.get(path, set())
    if (kind := after.get('type')) is not None:
        reader = find_component(kind)
        # an unknown component is for the registry to name
        names = None if reader is None else argument_names(reader)
    else:
        names = argument_names(READERS[path]) if path in READERS else set()
    if names is None:
        return None
    return known | names | {'type', '_delete_'}


def find_component(kind: str | type) -> Callable | None:
    """Return the component that a config's ``type`` names, from whichever registry has it."""
    if not isinstance(kind, str):
        return kind
    for registry in vars(registries).values():
        if isinstance(registry, Registry):
            # that of the default scope, such as MMDetection's, which also searches its parents
            with registry.switch_scope_and_registry(None) as scoped:
                if (found := scoped.get(kind)) is not None:
                    return found
    return None


def argument_names(component: Callable) -> set[str] | None:
    """Return the names of the arguments of a class or function, or None if it takes any.

    Of a class whose constructor takes ``**kwargs`` they include those of its base classes.
    """
    if not inspect.isclass(component):
        steps = [component]
    else:
        classes = [c for c in component.__mro__ if '__init__' in vars(c) and c is not object]
        steps = [vars(c)['__init__'] for c in classes]
    if not steps:
        return set()
    names: set[str] = set()
    for step in steps:
        parameters = inspect.signature(step).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            return names - {'self'}
    return None


def _refuse(name: str, parts: list[str], place: int, known: set[str], value: object) -> None:
    close = get_close_matches(parts[place], known, n=1)
    if close:
        right = '.'.join([*parts[:place], close[0], *parts[place + 1 :]])
        hint = f'did you mean {right}?'
    else:
        owner = '.'.join(parts[:place]) or 'the config'
        hint = f'{owner} has {", ".join(sorted(known))}.'
    shown = value if not isinstance(value, ConfigDict | dict | list | tuple) else '…'
    raise InputError(f'unknown setting {name}: {hint} To add it on purpose, write +{name}={shown}')
