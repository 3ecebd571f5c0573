"""Regional and global terms from features; which level is contrasted with which is data."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS
from mmcrosscl.structures import ViewPairSample, paired_rois

from .communication import start_gather, to_device
from .regions import build_roi_layer, region_vectors

GLOBAL = 'global'
# where the negatives of a term come from
QUEUE, ALL_RANKS, OWN_RANK = 'queue', 'all_ranks', 'own_rank'


class Term(NamedTuple):
    """One contrast: query level, key level, source of the negatives, weight in the sum."""

    query: str
    key: str
    negatives: str
    weight: float = 1.0

    @property
    def name(self) -> str:
        return GLOBAL if self.query == GLOBAL else f'{self.query}_{self.key}'

    @property
    def negatives_key(self) -> str:
        """The name of the set of negatives: the queue, or the cells of one level."""
        return QUEUE if self.negatives == QUEUE else f'{self.negatives}_{self.key}'


def pool_negatives(feature_map: Tensor, view_size: int) -> Tensor:
    """Average-pool a key map and return every cell as a unit vector.

    The window grows with the view, which keeps the number of cells about the same: side 3, 4, 5 and
    stride 1, 2, 2 at the published sizes 224, 384 and 480, by side 1 + ⌊S / 112⌋, at most that of
    the map, and stride ⌊side / 2⌋.

    Args:
        feature_map (Tensor): (N, C, H, W), a pyramid level of the key views.
        view_size (int): S, side of the views in pixels.

    Returns:
        Tensor: (N·H′·W′, C).
    """
    side = min(1 + view_size // 112, *feature_map.shape[-2:])
    cells = F.avg_pool2d(feature_map, side, stride=max(side // 2, 1))
    # NCCL gathers contiguous memory only
    return F.normalize(cells.permute(0, 2, 3, 1).flatten(0, 2), dim=1).contiguous()


@MODELS.register_module()
class CrossCLHead(BaseModule):
    """The weighted contrasts between levels of two views.

    Attributes:
        levels (tuple[str, ...]): Names of the pyramid levels that the terms use, without 'global'.
        strides (dict[str, int]): Stride of each of these levels in pixels of the view.

    Args:
        terms (Sequence[dict]): The contrasts. Each has ``query`` and ``key``, the name of a level
            of the neck's output or 'global'; ``negatives``, 'queue' for the global vectors and,
            for the cells of key level maps, 'all_ranks' or 'own_rank'; and optionally ``weight``,
            by default 1.
        strides (Mapping[str, int]): Strides of the pyramid levels, by name, in pixels of the view.
            :class:`CrossCL` passes its neck's. Defaults to none, which suits global terms.
        loss (dict): The contrastive loss. Defaults to :class:`InfoNCELoss` at temperature 0.2.
        roi_layer (dict): The layer of ``mmcv.ops`` that pools a region from a level, as in
            MMDetection's RoI extractors. Defaults to RoIAlign without half-pixel shift.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        InputError: If a term names an unknown level or source of negatives, or is given twice.
    """

    def __init__(
        self,
        terms: Sequence[Mapping],
        strides: Mapping[str, int] = {},
        loss: dict = dict(type='mmcrosscl.InfoNCELoss', temperature=0.2),
        roi_layer: dict = dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.terms = tuple(self._term(term) for term in terms)
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise InputError(f'terms are {names}; give at least one, and each once')
        used = dict.fromkeys(level for term in self.terms for level in (term.query, term.key))
        self.levels = tuple(level for level in used if level != GLOBAL)
        if unknown := [level for level in self.levels if level not in strides]:
            raise InputError(
                f'the terms contrast unknown level {", ".join(map(repr, unknown))}; strides are '
                f"given for {', '.join(strides) or 'none'}: add it to the neck's levels or take it "
                'from the terms'
            )
        self.strides = {level: strides[level] for level in self.levels}
        # not by name: a ModuleDict does not take every name that a level may have
        self.roi_layers = nn.ModuleList(
            build_roi_layer(roi_layer, stride) for stride in self.strides.values()
        )
        self.loss_module = MODELS.build(loss)

    @staticmethod
    def _term(settings: Mapping) -> Term:
        try:
            term = Term(**settings)
        except TypeError:
            raise InputError(
                f'term {settings} has unknown or missing fields; give query, key, negatives '
                'and, if not 1, weight'
            ) from None
        is_global = {term.query == GLOBAL, term.key == GLOBAL, term.negatives == QUEUE}
        if len(is_global) > 1 or term.negatives not in (QUEUE, ALL_RANKS, OWN_RANK):
            raise InputError(
                f'term {settings} is not possible; contrast "global" with "global" and negatives '
                '"queue", or a pyramid level with a pyramid level and negatives "all_ranks" or '
                '"own_rank"'
            )
        return term

    def region_vectors(self, feature_map: Tensor, regions: Tensor, level: str) -> Tensor:
        """Pool regions from a pyramid level, as the loss does.

        Args:
            feature_map (Tensor): (N, C, H, W), the level's map of N views.
            regions (Tensor): (R, 5), on the same device; index of the view, then x0, y0, x1, y1 in
                pixels of the view. :func:`~mmcrosscl.structures.paired_rois` gives those of a
                batch.
            level (str): One of :attr:`levels`.

        Returns:
            Tensor: (R, C), unit length, in float32 or, for a float64 map, in float64.
        """
        layer = self.roi_layers[self.levels.index(level)]
        return region_vectors(_full_precision(feature_map), regions, layer)

    def negatives(self, key: dict[str, Tensor], view_size: int) -> dict[str, Callable[[], Tensor]]:
        """Start to gather the negatives of the regional terms.

        Args:
            key (dict[str, Tensor]): The neck's output for the key views.
            view_size (int): S, side of the views in pixels.

        Returns:
            dict[str, Callable]: By :attr:`Term.negatives_key`, a function that waits for the
            cells and returns them, (K, C); for :meth:`loss`.
        """
        cells = {
            level: pool_negatives(_full_precision(key[level]), view_size)
            for level in sorted({term.key for term in self.terms} - {GLOBAL})
        }
        return {
            term.negatives_key: start_gather(cells[term.key])
            if term.negatives == ALL_RANKS
            else partial(cells.get, term.key)
            for term in {term.negatives_key: term for term in self.terms}.values()
            if term.negatives != QUEUE
        }

    def loss(
        self,
        query: dict[str, Tensor],
        key: dict[str, Tensor],
        negatives: dict[str, Callable[[], Tensor]],
        data_samples: list[ViewPairSample],
        view_size: int,
    ) -> dict[str, Tensor]:
        """Contrast the levels of two views of N images.

        Args:
            query (dict[str, Tensor]): The neck's output for the query views, with gradient.
            key (dict[str, Tensor]): The neck's output for the key views, without.
            negatives (dict[str, Callable]): By :attr:`Term.negatives_key`, a function that returns
                (K, C) unit vectors: 'queue' the past keys, the others from :meth:`negatives`.
            data_samples (list[ViewPairSample]): N samples with the regions of both views.
            view_size (int): S, side of the views in pixels.

        Returns:
            dict[str, Tensor]: Per term its weighted loss, ``loss_global`` or ``loss_p4_p3`` (query
            level first), and its top-1 accuracy in percent, ``acc_global`` or ``acc_p4_p3``.

        Raises:
            InputError: If a stride does not divide S or a sample has no regions.
        """
        device = next(iter(query.values())).device
        with torch.autocast(device.type, enabled=False):
            query = {name: _full_precision(x) for name, x in query.items()}
            key = {name: _full_precision(x) for name, x in key.items()}
            # selected in host memory: their number is known without a wait for the device
            rois = to_device(torch.from_numpy(paired_rois(data_samples, 'query')), device)
            queries = {
                level: self._vectors(query, level, rois, view_size)
                for level in dict.fromkeys(term.query for term in self.terms)
            }
            rois = to_device(torch.from_numpy(paired_rois(data_samples, 'key')), device)
            keys = {
                level: self._vectors(key, level, rois, view_size)
                for level in dict.fromkeys(term.key for term in self.terms)
            }
            results = {}
            # terms with the same negatives are computed in one call
            for negatives_key in dict.fromkeys(term.negatives_key for term in self.terms):
                terms = [term for term in self.terms if term.negatives_key == negatives_key]
                losses, accuracies = self.loss_module(
                    torch.stack([queries[term.query] for term in terms]),
                    torch.stack([keys[term.key] for term in terms]),
                    negatives[negatives_key](),
                )
                results |= zip(terms, zip(losses, accuracies))
            losses = {}
            for term in self.terms:
                loss, accuracy = results[term]
                losses[f'loss_{term.name}'] = term.weight * loss
                losses[f'acc_{term.name}'] = accuracy
            # a level that is only a key is still part of the graph: between ranks the gradient of
            # every parameter is waited for
            first = f'loss_{self.terms[0].name}'
            for name in query:
                if name not in queries:
                    losses[first] = losses[first] + query[name][:0].sum()
        return losses

    def _vectors(
        self, features: dict[str, Tensor], level: str, rois: Tensor, view_size: int
    ) -> Tensor:
        if level == GLOBAL:
            return F.normalize(features[GLOBAL], dim=1)
        feature_map, stride = features[level], self.strides[level]
        if feature_map.shape[-1] * stride != view_size:
            raise InputError(
                f'view size {view_size} is not a multiple of the strides (level {level} with '
                f'stride {stride} has {feature_map.shape[-1]} cells); use a multiple of '
                f'{math.lcm(*self.strides.values())}'
            )
        return self.region_vectors(feature_map, rois, level)


def _full_precision(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
