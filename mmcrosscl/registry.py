"""mmcrosscl's nodes in MMEngine's registry tree.

`type='mmcrosscl.X'` resolves from the config of any MMEngine project: the `locations` are imported
the first time something is looked up here, so no config needs `custom_imports`.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

# the algorithm, its neck, its head and its loss; what evaluates features
MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmcrosscl',
    locations=['mmcrosscl.models', 'mmcrosscl.evaluation'],
)
# images without labels
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmcrosscl', locations=['mmcrosscl.datasets']
)
# in which order, and which draws belong to each
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=MMENGINE_DATA_SAMPLERS,
    scope='mmcrosscl',
    locations=['mmcrosscl.datasets'],
)
# from samples to a batch
FUNCTIONS = Registry(
    'function', parent=MMENGINE_FUNCTIONS, scope='mmcrosscl', locations=['mmcrosscl.datasets']
)
# from an image to two views and their regions
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmcrosscl',
    locations=['mmcrosscl.datasets.transforms'],
)
# what happens around the training iterations
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmcrosscl', locations=['mmcrosscl.engine'])
# what trains, and goes on after an interruption
RUNNERS = Registry(
    'runner', parent=MMENGINE_RUNNERS, scope='mmcrosscl', locations=['mmcrosscl.engine']
)
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mmcrosscl', locations=['mmcrosscl.engine'])
# in what precision is trained, and what is done with gradients that are no numbers
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmcrosscl',
    locations=['mmcrosscl.engine'],
)
