"""Registries of mmcrosscl, children of MMEngine's root registries.

`type='mmcrosscl.X'` resolves from the config of any MMEngine project. A registry imports its
`locations` when it is first searched, so configs do not need `custom_imports`.
"""

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
from mmengine.registry import Registry

from .dependencies import check_requirements

# checked here because every module with a component imports this module
check_requirements()

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


def component_class(registry: Registry, name: str | type | None) -> type | None:
    """Return the class of a config's ``type``: a name, a name with a scope, or already a class."""
    return registry.get(name) if isinstance(name, str) else name
