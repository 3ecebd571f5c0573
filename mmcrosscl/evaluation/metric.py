"""Metric of the similarity between pyramid levels, between views and between objects."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.models.regions import build_roi_layer, region_vectors
from mmcrosscl.registry import METRICS
from mmcrosscl.structures import REGION_FIELDS

from .similarity import DRAWS, Estimate, bootstrap, compare_regions

ROI_LAYER = dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False)
FEATURES = dict(query='query_features', key='key_features')
# mean similarity between objects from which all regions of a level count as alike
ALIKE = 0.95
# recall@1 below which vectors that are alike do not tell objects apart
COLLAPSED_RECALL = 0.5
ONE_VIEW, TWO_VIEWS = 1, 2


@dataclass(frozen=True)
class LevelPair:
    """Similarity of the same region between two levels.

    Attributes:
        query: Level of the query vectors.
        key: Level of the key vectors.
        views: 2 if the key vectors are from the other view of the image, or 1 if they are from the
            same view.
        same: Cosine similarity of the same region.
        other: Cosine similarity to other objects.
        margin: ``same`` minus ``other``.
        recall: Share of regions whose nearest key vector is that of the same region (recall@1).
    """

    query: str
    key: str
    views: int
    same: Estimate
    other: Estimate
    margin: Estimate
    recall: Estimate

    @property
    def name(self) -> str:
        """Name in the results of :class:`CrossStageSimilarity`, such as 'p3_p4'."""
        return f'{self.query}_{self.key}' + ('_one_view' if self.views == ONE_VIEW else '')

    @property
    def collapsed(self) -> bool:
        """Whether the vectors of all regions are alike and do not tell objects apart."""
        return (
            self.query == self.key
            and self.other.value > ALIKE
            and self.recall.high < COLLAPSED_RECALL
        )


def pool_views(
    features: Mapping[str, Mapping[str, Tensor]],
    regions: Mapping[str, Tensor],
    view_size: int,
    roi_layer: Mapping = ROI_LAYER,
) -> dict[str, dict[str, Tensor]]:
    """Pool the regions of an image from all maps of its two views.

    Args:
        features (Mapping[str, Mapping[str, Tensor]]): (C, H, W) maps by 'query' and 'key', and by
            level. Vectors, such as 'global', are omitted.
        regions (Mapping[str, Tensor]): (R, 4) boxes by 'query' and 'key', in pixels of the view.
        view_size (int): Side of the views in pixels.
        roi_layer (Mapping): Config of a layer of ``mmcv.ops``; see :class:`CrossCLHead`. Defaults
            to that of the published configs.

    Returns:
        dict[str, dict[str, Tensor]]: (R, C) vectors of unit length, by view and level, with the
        finest level first.
    """
    vectors: dict[str, dict[str, Tensor]] = {}
    for view, maps in features.items():
        rois = torch.nn.functional.pad(regions[view], (1, 0))
        vectors[view] = {}
        spatial = {level: x for level, x in maps.items() if x.dim() == 3}
        for level, x in sorted(spatial.items(), key=lambda item: -item[1].shape[-1]):
            layer = build_roi_layer(roi_layer, view_size / x.shape[-1])
            pooled = region_vectors(x[None].float(), rois.to(x.device), layer)
            vectors[view][level] = pooled.cpu()
    return vectors


def compare_levels(
    vectors: Mapping[str, Mapping[str, Tensor]],
    image: Tensor,
    boxes: Tensor,
    levels: Sequence[str] | None = None,
    draws: int = DRAWS,
) -> list[LevelPair]:
    """Compare the regions of all images between levels, views and objects.

    Args:
        vectors (Mapping[str, Mapping[str, Tensor]]): (R, C) vectors of unit length, by view
            ('query' and 'key') and level.
        image (Tensor): (R,) integers, the image of each region.
        boxes (Tensor): (R, 4), the regions in pixels of the query view.
        levels (Sequence[str], optional): Levels to compare. Defaults to all levels.
        draws (int): Resamples of the bootstrap. Defaults to 1,000.

    Returns:
        list[LevelPair]: Each level with itself in the other view, then each pair of levels of the
        same width in the other view and in the same view.
    """
    levels = list(vectors['query'] if levels is None else levels)
    pairs = [(level, level, TWO_VIEWS) for level in levels]
    for views in (TWO_VIEWS, ONE_VIEW):
        pairs += [(*pair, views) for pair in itertools.combinations(levels, 2)]
    rows = []
    for query, key, views in pairs:
        first = vectors['query'][query]
        second = vectors['key' if views == TWO_VIEWS else 'query'][key]
        if first.shape != second.shape:
            continue
        found = compare_regions(first, second, image, boxes)
        columns = torch.stack((found.same, found.other, found.same - found.other, found.hit), dim=1)
        rows.append(LevelPair(query, key, views, *bootstrap(columns, image, draws)))
    return rows


@METRICS.register_module()
class CrossStageSimilarity(BaseMetric):
    """Similarity of the same region between pyramid levels, between views, and to other objects.

    The samples of :meth:`CrossCL.predict <mmcrosscl.models.CrossCL.predict>` have the features of
    two views of each image and the regions in both. Each paired region is pooled from each level as
    in the loss, and its vectors are compared by cosine similarity. The results are, for each pair
    of levels such as ``p3_p4``:

    - ``p3_p4_same``: mean similarity of the same region, on P3 in the query view and on P4 in the
      key view.
    - ``p3_p4_margin``: the same minus the mean similarity to other objects. It is 0 if all vectors
      are alike.
    - ``p3_p4_recall``: share of regions whose most similar key is that of the same region, among
      the keys of all objects.

    ``_low`` and ``_high`` after a name are its 95 % interval, of a bootstrap over images.
    ``p3_p4_one_view_…`` compares both levels in the query view, and ``p3_p3_…`` compares one level
    between the views. ``collapsed`` is the number of levels whose regions are all alike.

    Args:
        levels (Sequence[str], optional): Levels to compare. Defaults to all levels of the neck.
        roi_layer (dict): Config of the layer of ``mmcv.ops`` that pools a region, as in
            :class:`CrossCLHead`.
        draws (int): Resamples of the bootstrap. Defaults to 1,000.
        collect_device (str): Device on which the processes exchange vectors. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the results. Defaults to 'similarity'.

    Raises:
        InputError: If no image has a paired region, or a level is unknown.
    """

    default_prefix = 'similarity'

    def __init__(
        self,
        levels: Sequence[str] | None = None,
        roi_layer: dict = ROI_LAYER,
        draws: int = DRAWS,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.levels = levels
        self.roi_layer = roi_layer
        self.draws = draws

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Pool the regions of a batch."""
        for sample in data_samples:
            if FEATURES['query'] not in sample or 'paired' not in sample:
                raise InputError(
                    'CrossStageSimilarity expected samples with features and regions; evaluate a '
                    'CrossCL on a dataset whose pipeline ends with RegionPairs and PackViews'
                )
            paired = torch.from_numpy(sample['paired'])
            regions = {
                view: torch.from_numpy(sample[name])[paired] for view, name in REGION_FIELDS.items()
            }
            features = {view: sample[name] for view, name in FEATURES.items()}
            size = sample['img_shape'][0]
            vectors = pool_views(features, regions, size, self.roi_layer)
            self.results.append(dict(vectors=vectors, boxes=regions['query']))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the results from the vectors of all images."""
        vectors, image, boxes = join_images(results)
        if unknown := [x for x in self.levels or () if x not in vectors['query']]:
            raise InputError(
                f'CrossStageSimilarity: unknown level {unknown[0]}; the levels of the neck are '
                f'{", ".join(vectors["query"])}'
            )
        rows = compare_levels(vectors, image, boxes, self.levels, self.draws)
        metrics: dict[str, float] = {}
        for row in rows:
            for field in ('same', 'margin', 'recall'):
                estimate: Estimate = getattr(row, field)
                metrics[f'{row.name}_{field}'] = estimate.value
                metrics[f'{row.name}_{field}_low'] = estimate.low
                metrics[f'{row.name}_{field}_high'] = estimate.high
        metrics['collapsed'] = sum(row.collapsed for row in rows)
        self._log(rows)
        return metrics

    def _log(self, rows: list[LevelPair]) -> None:
        logger = MMLogger.get_current_instance()
        between = [row for row in rows if row.views == TWO_VIEWS]
        summary = ', '.join(
            f'{row.query} and {row.key} {row.margin.value:.2f} (recall {row.recall.value:.0%})'
            for row in between
        )
        logger.info(f'Similarity margin between views: {summary}')
        if alike := [row for row in rows if row.collapsed]:
            logger.warning(
                f'Collapse: the vectors of all regions are alike on '
                f'{" and ".join(row.query for row in alike)}, with a mean similarity of '
                f'{alike[0].other.value:.2f} between different objects. Reduce the learning rate, '
                'or check that the images differ.'
            )


def join_images(results: Sequence[Mapping]) -> tuple[dict[str, dict[str, Tensor]], Tensor, Tensor]:
    """Concatenate the region vectors of images.

    Args:
        results (Sequence[Mapping]): Per image, 'vectors' from :func:`pool_views` and 'boxes',
            (R, 4), in pixels of the query view.

    Returns:
        tuple: (ΣR, C) vectors by view and level, the image of each region, (ΣR,), and the boxes,
        (ΣR, 4).

    Raises:
        InputError: If fewer than two images have regions.
    """
    counts = torch.tensor([len(result['boxes']) for result in results])
    if (counts > 0).sum() < 2:
        raise InputError(
            f'{int((counts > 0).sum())} of {len(results)} images have a paired region, but a '
            'comparison needs two; add images, increase crop_ratio_range of TwoCrops, or reduce '
            'the windows'
        )
    vectors = {
        view: {
            level: torch.cat([result['vectors'][view][level] for result in results])
            for level in results[0]['vectors'][view]
        }
        for view in results[0]['vectors']
    }
    image = torch.arange(len(results)).repeat_interleave(counts)
    return vectors, image, torch.cat([result['boxes'] for result in results])
