"""Packing of the results of a pipeline into a sample."""

from mmcv.transforms import BaseTransform

from mmcrosscl.registry import TRANSFORMS
from mmcrosscl.structures import ViewPairSample


@TRANSFORMS.register_module()
class PackViews(BaseTransform):
    """Pack two views and their regions for :func:`~mmcrosscl.datasets.collate_views`.

    Only the views are moved to the training device. All other data stay in host memory.

    **Required Keys:**

    - img (list[np.ndarray]): Query view and key view, each (S, S, 3) uint8.
    - The regions that :class:`RegionPairs` adds.
    - photometric (list[Plan], optional): The plan that the training device applies to each view.

    **Added Keys:**

    - inputs (list[np.ndarray]): The views.
    - data_samples (ViewPairSample): The regions, ``photometric`` if present, and the meta
      information.

    Args:
        meta_keys (tuple[str, ...]): Keys to store as meta information if they are present. Defaults
            to the keys that describe the origin of the views. ``sample_idx`` is the index that the
            dataset received. It carries the seed of the random parameters.

    Raises:
        InputError: If the regions are missing.
    """

    def __init__(
        self,
        meta_keys: tuple[str, ...] = (
            'img_path',
            'sample_idx',
            'ori_shape',
            'img_shape',
            'flip',
            'crops',
        ),
    ) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        sample = ViewPairSample.from_results(results, self.meta_keys)
        return dict(inputs=results['img'], data_samples=sample)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'
