"""From the keys of a pipeline to a sample."""

from mmcv.transforms import BaseTransform
from mmpretrain.structures import DataSample

from mmcrosscl.errors import InputError
from mmcrosscl.registry import TRANSFORMS

REGIONS = ('query_regions', 'key_regions', 'paired')


@TRANSFORMS.register_module()
class PackViews(BaseTransform):
    """Two views and what belongs to them, ready for :func:`~mmcrosscl.datasets.collate_views`.

    All but the views stays in host memory, where it is little and waited for by no device.

    **Required Keys:**

    - img (list[np.ndarray]): Query view and key view, each (S, S, 3) uint8.
    - query_regions, key_regions, paired: See :class:`RegionPairs`.
    - photometric (list[Plan], optional): What is left to do to each view on the training device.

    **Added Keys:**

    - inputs (list[np.ndarray]): The views.
    - data_samples (DataSample): The regions and, if any, ``photometric`` as its fields; those of
      ``meta_keys`` that are there as its meta information.

    Args:
        meta_keys (tuple[str, ...]): Defaults to where the views are from; ``sample_idx`` has the
            seed of the draws.

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
        origin = {key: results[key] for key in self.meta_keys if key in results}
        sample = DataSample(metainfo=origin)
        for name in REGIONS:
            if name not in results:
                raise InputError(f'PackViews finds no {name!r}; put mmcrosscl.RegionPairs first')
            sample.set_field(results[name], name)
        if 'photometric' in results:
            sample.set_field(results['photometric'], 'photometric')
        return dict(inputs=results['img'], data_samples=sample)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'
