"""Registries of mmcrosscl, children of MMEngine's root registries.

`type='mmcrosscl.X'` resolves from the config of any MMEngine project. A registry imports its
`locations` when it is first searched, so configs do not need `custom_imports`.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

from mmengine import registry as registries
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import DefaultScope, Registry

from .compat.transformers import without_unusable_transformers
from .dependencies import check_requirements
from .quiet import quiet_output

_ROOTS = [item for item in vars(registries).values() if isinstance(item, Registry)]

# checked here because every module with a component imports this module
check_requirements()
# The first import prints that an optional package is missing. Most modules below need it anyway.
with quiet_output(), without_unusable_transformers():
    import mmpretrain.datasets  # noqa: F401

# the algorithm, its neck, head, loss and queue, and the k-nearest-neighbor classifier
MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmcrosscl',
    locations=['mmcrosscl.models', 'mmcrosscl.evaluation'],
)
# datasets of unlabeled images
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmcrosscl', locations=['mmcrosscl.datasets']
)
# samplers that set the order of the images and the random seed of each image
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=MMENGINE_DATA_SAMPLERS,
    scope='mmcrosscl',
    locations=['mmcrosscl.datasets'],
)
# `collate_fn` of data loaders
FUNCTIONS = Registry(
    'function', parent=MMENGINE_FUNCTIONS, scope='mmcrosscl', locations=['mmcrosscl.datasets']
)
# steps of the data pipeline, from an image to two views and their regions
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmcrosscl',
    locations=['mmcrosscl.datasets.transforms'],
)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmcrosscl', locations=['mmcrosscl.engine'])
RUNNERS = Registry(
    'runner', parent=MMENGINE_RUNNERS, scope='mmcrosscl', locations=['mmcrosscl.engine']
)
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mmcrosscl', locations=['mmcrosscl.engine'])
# training precision and the handling of NaN/Inf gradients
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmcrosscl',
    locations=['mmcrosscl.engine'],
)
# `val_evaluator` and `test_evaluator`
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='mmcrosscl', locations=['mmcrosscl.evaluation']
)
VISUALIZERS = Registry(
    'visualizer',
    parent=MMENGINE_VISUALIZERS,
    scope='mmcrosscl',
    locations=['mmcrosscl.visualization'],
)
# MMEngine looks up all components of a config that inherits `mmcrosscl::…` in the scope mmcrosscl,
# and would warn of a missing registry. The other registries therefore exist, without components.
for _root in _ROOTS:
    if 'mmcrosscl' not in _root.children:
        Registry(_root.name, parent=_root, scope='mmcrosscl', locations=['mmcrosscl'])


def component_class(registry: Registry, name: str | type | None) -> type | None:
    """Return the class of a config's ``type``: a name, a name with a scope, or already a class."""
    return registry.get(name) if isinstance(name, str) else name


def find_component(kind: str | type | None) -> Callable | None:
    """Return the component that a config's ``type`` names, or None if no registry has it."""
    if not isinstance(kind, str):
        return kind
    names = [kind]
    if '.' not in kind:
        # the registries of the default scope, such as MMDetection's, are searched first
        scope = DefaultScope.get_current_instance().scope_name
        with suppress(ImportError):
            import_module(f'{scope}.registry')
        names.insert(0, f'{scope}.{kind}')
    for registry in _ROOTS:
        found = next(filter(None, map(registry.get, names)), None)
        if found is not None:
            return found
    return None


def argument_names(component: Callable) -> set[str] | None:
    """Return the argument names of a class or function, or None if it takes any argument.

    If the constructor of a class takes ``**kwargs``, the arguments of its bases are included.
    """
    if not inspect.isclass(component):
        functions = [component]
    else:
        classes = [c for c in component.__mro__ if '__init__' in vars(c) and c is not object]
        functions = [vars(c)['__init__'] for c in classes]
    if not functions:
        return set()
    names: set[str] = set()
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            return names - {'self'}
    return None


def default_argument(component: type, name: str) -> object:
    """Return the default of a constructor's argument, or None if no class has such an argument."""
    for cls in component.__mro__:
        parameters = inspect.signature(vars(cls).get('__init__', object.__init__)).parameters
        if name in parameters and parameters[name].default is not inspect.Parameter.empty:
            return parameters[name].default
    return None
