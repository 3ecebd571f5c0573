"""Structures that the data pipeline hands to the model: indices with a seed, and region pairs."""

import random
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from mmpretrain.structures import DataSample
from torch import Tensor

from mmcrosscl.errors import InputError

# the data field that holds the regions of each view
REGION_FIELDS = dict(query='query_regions', key='key_regions')
REQUIRED_FIELDS = (*REGION_FIELDS.values(), 'paired')
FEATURE_FIELDS = ('query_features', 'key_features')
# operations that records written by earlier releases name differently
RENAMED_OPERATIONS = dict(grey='grayscale')


def _keep_position(operator: Callable) -> Callable:
    """Return an operator of ``int`` whose integer results are indices at the same position."""

    def method(self: 'SeededIndex', *operands: object) -> object:
        # int's operators know no NumPy integers, whose own operators would drop the seed
        operands = [int(x) if isinstance(x, Integral) else x for x in operands]
        result = operator(int(self), *operands)
        if isinstance(result, tuple):
            return tuple(map(self.at, result))
        return self.at(result) if isinstance(result, int) else result

    return method


def _with_integer_operators(cls: type) -> type:
    binary = ('add', 'sub', 'mul', 'floordiv', 'mod', 'divmod', 'pow')
    binary += ('lshift', 'rshift', 'and', 'or', 'xor')
    unary = ('neg', 'pos', 'abs', 'invert')
    for name in (*binary, *(f'r{name}' for name in binary), *unary):
        setattr(cls, f'__{name}__', _keep_position(getattr(int, f'__{name}__')))
    return cls


@_with_integer_operators
class SeededIndex(int):
    """The index of an image, with the position in the sampler's order that seeds its transforms.

    An index carries its seed because it is all that a persistent worker process receives: the
    random parameters of an image must depend neither on the worker nor on what the worker loaded
    before. Wrapper datasets such as ``ConcatDataset`` compute an index into another dataset from
    the one they receive, so every integer operator keeps seed, epoch and position. ``int(index)``
    and look-ups in a table of indices, as in :class:`torch.utils.data.Subset`, return a plain
    ``int``, as does an operator of a NumPy integer on the left.

    Args:
        index (int): Index of the image in the dataset.
        seed (int): Seed of the sampler.
        epoch (int): Epoch, or 0 where the sampler has none.
        position (int): Position in the order of the epoch, counted over all ranks.
    """

    def __new__(cls, index: int, seed: int, epoch: int, position: int) -> 'SeededIndex':
        self = super().__new__(cls, index)
        self.seed, self.epoch, self.position = seed, epoch, position
        return self

    def __getnewargs__(self) -> tuple[int, int, int, int]:
        return int(self), self.seed, self.epoch, self.position

    def at(self, index: int) -> 'SeededIndex':
        """Return the index of another image at the same position."""
        return SeededIndex(index, self.seed, self.epoch, self.position)

    def seed_generators(self) -> None:
        """Seed NumPy, ``random`` and torch with a function of seed, epoch and position."""
        words = np.random.SeedSequence((self.seed, self.epoch, self.position)).generate_state(4)
        np.random.seed(words)
        random.seed(words.tobytes())
        # torch.manual_seed looks for devices, which takes a tenth of the time for an image
        torch.default_generator.manual_seed(int(words[0]))


def _field(name: str, dtype: type) -> property:
    """Return a typed data field: in MMEngine's pattern the value is stored as ``_name``."""
    stored = f'_{name}'

    def read(self: BaseDataElement) -> object:
        return getattr(self, stored)

    def write(self: BaseDataElement, value: object) -> None:
        self.set_field(value, stored, dtype=dtype)

    def delete(self: BaseDataElement) -> None:
        delattr(self, stored)

    return property(read, write, delete)


class ViewPairSample(DataSample):
    """The region pairs of one image, and where its two views come from.

    A subclass of MMPretrain's ``DataSample`` with typed data fields, as MMDetection's
    ``DetDataSample``. Regions are NumPy arrays in host memory: the number of pairs must be known
    without a wait for the device.

    **Data fields:**

    - query_regions (np.ndarray): (R, 4) float32; x0, y0, x1, y1 in pixels of the query view.
    - key_regions (np.ndarray): (R, 4) float32; the same places in pixels of the key view.
    - paired (np.ndarray): (R,) bool; whether a region lies within both views.
    - photometric (list[Plan], optional): The photometric operations that the training device
      applies to the query view and to the key view.
    - query_features, key_features (dict[str, Tensor], optional): What
      :meth:`~mmcrosscl.models.CrossCL.predict` adds for each view: 'global', (feat_dim,), and
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
        """Pack the results of a pipeline that includes ``RegionPairs``.

        Args:
            results (Mapping): The pipeline's results.
            meta_keys (Sequence[str]): Meta information to keep, where present.

        Returns:
            ViewPairSample: The regions, the photometric plans if any, and the meta information.

        Raises:
            InputError: If the results have no regions.
        """
        sample = cls(metainfo={key: results[key] for key in meta_keys if key in results})
        for name in REQUIRED_FIELDS:
            if name not in results:
                raise InputError(
                    f'the pipeline gives no {name!r}; put mmcrosscl.RegionPairs first, before '
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

        A checkpoint with the record can be read with ``weights_only=True``. ``sample_idx`` becomes
        a dict of index, seed, epoch and position if it is a :class:`SeededIndex`. Features are not
        included.
        """
        return {
            name: _plain(value) for name, value in self.all_items() if name not in FEATURE_FIELDS
        }

    @classmethod
    def from_record(cls, record: Mapping) -> 'ViewPairSample':
        """Rebuild the sample that :meth:`to_record` returned, in this or an earlier release."""
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
    """Collect the paired regions of a batch in the form that RoI ops take.

    Args:
        samples (Sequence[ViewPairSample]): N samples.
        view (str): 'query' or 'key'.

    Returns:
        np.ndarray: (ΣR, 5); index of the sample, then x0, y0, x1, y1 in pixels of the view. The
        same row is the same region in both views.

    Raises:
        InputError: If a sample has no regions.
    """
    name = REGION_FIELDS[view]
    if any(name not in sample or 'paired' not in sample for sample in samples):
        raise InputError(
            f'a data sample has no {name!r} or no "paired"; put mmcrosscl.RegionPairs and '
            'mmcrosscl.PackViews into the pipeline'
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
