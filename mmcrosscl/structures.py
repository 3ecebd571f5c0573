"""Data structures that the data pipeline passes to the model: seeded indices and region pairs."""

import random
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from mmpretrain.structures import DataSample
from torch import Tensor

from mmcrosscl.errors import InputError

# names of the data fields with the regions of each view
REGION_FIELDS = dict(query='query_regions', key='key_regions')
REQUIRED_FIELDS = (*REGION_FIELDS.values(), 'paired')
FEATURE_FIELDS = ('query_features', 'key_features')
# maps former to current names of operations, for records of earlier releases
RENAMED_OPERATIONS = dict(grey='grayscale')


def _keep_position(operator: Callable) -> Callable:
    """Wrap an operator of ``int``: integer results become indices with the same position."""

    def method(self: 'SeededIndex', *operands: object) -> object:
        # int's operators reject NumPy integers, and NumPy's operators would drop the seed
        plain = [int(x) if isinstance(x, Integral) else x for x in operands]
        result = operator(int(self), *plain)
        if isinstance(result, tuple):
            return tuple(map(self.at, result))
        return self.at(result) if isinstance(result, int) else result

    return method


def _with_integer_operators(cls: type) -> type:
    binary = ['add', 'sub', 'mul', 'floordiv', 'mod', 'divmod', 'pow']
    binary += ['lshift', 'rshift', 'and', 'or', 'xor']
    unary = ('neg', 'pos', 'abs', 'invert')
    for name in (*binary, *(f'r{name}' for name in binary), *unary):
        setattr(cls, f'__{name}__', _keep_position(getattr(int, f'__{name}__')))
    return cls


@_with_integer_operators
class SeededIndex(int):
    """Index of an image, with the seed, epoch and position that seed the image's transforms.

    The index carries the seed because a persistent worker process receives only indices. The random
    parameters of an image must not depend on the worker or on the images that the worker loaded
    before.

    Every integer operator keeps the seed, epoch and position, because wrapper datasets such as
    ``ConcatDataset`` compute an index into another dataset from the index that they receive. Three
    operations return an integer without the seed: ``int(index)``, an operator whose left operand is
    a NumPy integer, and a look-up in a table of indices, as in :class:`torch.utils.data.Subset`.

    Args:
        index (int): Index of the image in the dataset.
        seed (int): Seed of the sampler.
        epoch (int): Epoch, or 0 if the sampler does not count epochs.
        position (int): Position in the sampler's order of the epoch, counted over all ranks.
    """

    seed: int
    epoch: int
    position: int

    def __new__(cls, index: int, seed: int, epoch: int, position: int) -> 'SeededIndex':
        self = super().__new__(cls, index)
        self.seed, self.epoch, self.position = seed, epoch, position
        return self

    # the stub of int has the type of its own single argument
    def __getnewargs__(self) -> tuple[int, int, int, int]:  # type: ignore[override]
        return int(self), self.seed, self.epoch, self.position

    def at(self, index: int) -> 'SeededIndex':
        """Return the index of another image with the same seed, epoch and position."""
        return SeededIndex(index, self.seed, self.epoch, self.position)

    def seed_generators(self) -> None:
        """Seed NumPy, ``random`` and torch from the seed, epoch and position."""
        words = np.random.SeedSequence((self.seed, self.epoch, self.position)).generate_state(4)
        np.random.seed(words)
        random.seed(words.tobytes())
        # torch.manual_seed also seeds devices, which takes a tenth of an image's loading time
        torch.default_generator.manual_seed(int(words[0]))


def _field(name: str, dtype: type) -> property:
    """Return a property for a typed data field, whose value MMEngine stores as ``_name``."""
    stored = f'_{name}'

    def read(self: BaseDataElement) -> object:
        return getattr(self, stored)

    def write(self: BaseDataElement, value: object) -> None:
        self.set_field(value, stored, dtype=dtype)

    def delete(self: BaseDataElement) -> None:
        delattr(self, stored)

    return property(read, write, delete)


class ViewPairSample(DataSample):
    """Data sample of one image, with its region pairs and the origin of its two views.

    The class extends MMPretrain's ``DataSample`` with typed data fields, like MMDetection's
    ``DetDataSample``. Regions are NumPy arrays in host memory, because the number of pairs must be
    known without waiting for the device.

    **Data fields:**

    - query_regions (np.ndarray): (R, 4) float32; x0, y0, x1, y1 in pixels of the query view.
    - key_regions (np.ndarray): (R, 4) float32; the same regions in pixels of the key view.
    - paired (np.ndarray): (R,) bool; whether a region lies within both views.
    - photometric (list[Plan], optional): The photometric operations that the training device
      applies to the query view and to the key view.
    - query_features, key_features (dict[str, Tensor], optional): Features of each view, which
      :meth:`~mmcrosscl.models.CrossCL.predict` adds: the global vector 'global', (feat_dim,), and
      a (C, H, W) map per pyramid level.

    **Meta information:** img_path, sample_idx, ori_shape, img_shape, flip and crops; see
    :class:`~mmcrosscl.datasets.transforms.TwoCrops`.
    """

    query_regions = _field('query_regions', np.ndarray)
    key_regions = _field('key_regions', np.ndarray)
    paired = _field('paired', np.ndarray)
    photometric = _field('photometric', list)
    query_features = _field('query_features', dict)
    key_features = _field('key_features', dict)

    @classmethod
    def from_results(cls, results: Mapping, meta_keys: Sequence[str] = ()) -> 'ViewPairSample':
        """Create a sample from the results of a pipeline that includes ``RegionPairs``.

        Args:
            results (Mapping): The pipeline's results.
            meta_keys (Sequence[str]): Meta information to keep. Missing keys are skipped.

        Returns:
            ViewPairSample: The regions, the photometric plans if any, and the meta information.

        Raises:
            InputError: If the results have no regions.
        """
        sample = cls()
        for key in meta_keys:
            if key in results:
                # the argument `metainfo` of the class is copied, which takes longer than a crop
                sample.set_field(results[key], key, field_type='metainfo')
        for name in REQUIRED_FIELDS:
            if name not in results:
                raise InputError(
                    f'the pipeline results have no {name!r}; add mmcrosscl.RegionPairs before '
                    'mmcrosscl.PackViews'
                )
            setattr(sample, name, results[name])
        if 'photometric' in results:
            sample.photometric = results['photometric']
        return sample

    def regions(self, view: str) -> np.ndarray:
        """Return the (R, 4) regions of the 'query' or the 'key' view."""
        return getattr(self, REGION_FIELDS[view])

    def to_record(self) -> dict:
        """Return the sample as plain values and tensors.

        A checkpoint with the record can be read with ``weights_only=True``. If ``sample_idx`` is a
        :class:`SeededIndex`, it becomes a dict of index, seed, epoch and position. Features are not
        included.
        """
        return {
            name: _plain(value) for name, value in self.all_items() if name not in FEATURE_FIELDS
        }

    @classmethod
    def from_record(cls, record: Mapping) -> 'ViewPairSample':
        """Rebuild a sample from a record that this or an earlier release returned."""
        sample = cls()
        for name, value in record.items():
            if name in REQUIRED_FIELDS:
                setattr(sample, name, value.numpy())
            elif name == 'photometric':
                sample.photometric = [
                    tuple(
                        (RENAMED_OPERATIONS.get(operation, operation), x) for operation, x in plan
                    )
                    for plan in value
                ]
            else:
                sample.set_metainfo({name: _from_plain(value)})
        return sample


def paired_rois(samples: Sequence[BaseDataElement], view: str) -> np.ndarray:
    """Collect the paired regions of a batch in the format of RoI ops.

    Args:
        samples (Sequence[ViewPairSample]): N samples.
        view (str): 'query' or 'key'.

    Returns:
        np.ndarray: (ΣR, 5): index of the sample, then x0, y0, x1, y1 in pixels of the view. A row
        describes the same region for both views.

    Raises:
        InputError: If a sample has no regions.
    """
    name = REGION_FIELDS[view]
    if any(name not in sample or 'paired' not in sample for sample in samples):
        raise InputError(
            f'a data sample has no {name!r} or no "paired"; add mmcrosscl.RegionPairs and '
            'mmcrosscl.PackViews to the pipeline'
        )
    return np.concatenate(
        [
            np.pad(sample.get(name)[sample.paired], ((0, 0), (1, 0)), constant_values=index)
            for index, sample in enumerate(samples)
        ]
    )


def _plain(value: object) -> object:
    if isinstance(value, SeededIndex):
        return dict(index=int(value), seed=value.seed, epoch=value.epoch, position=value.position)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _from_plain(value: object) -> object:
    if isinstance(value, Mapping) and value.keys() == {'index', 'seed', 'epoch', 'position'}:
        return SeededIndex(**value)
    if isinstance(value, list):
        return tuple(map(_from_plain, value))
    return value.numpy() if isinstance(value, Tensor) else value
