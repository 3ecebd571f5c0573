"""Regional and global terms from features; which level is contrasted with which is data."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.structures import DataSample
from torch import Tensor

from mmcrosscl.errors import InputError
from mmcrosscl.registry import MODELS

from .communication import start_gather, to_device
from .regions import RegionPooling, level_stride

GLOBAL = 'global'
# where the negatives of a term come from
QUEUE, ALL_RANKS, OWN_RANK = 'queue', 'all_ranks', 'own_rank'


class Term(NamedTuple):
    """One contrast: query level, key level, where its negatives come from, weight in the sum."""

    query: str
    key: str
    negatives: str
    weight: float = 1.0

    @property
    def name(self) -> str:
        return GLOBAL if self.query == GLOBAL else f'{self.query}_{self.key}'

    @property
    def negatives_key(self) -> str:
        """Which negatives: 'queue', or cells of whom and of which level."""
        return QUEUE if self.negatives == QUEUE else f'{self.negatives}_{self.key}'


def pool_negatives(feature_map: Tensor, view_size: int) -> Tensor:
    """Every cell of an average-pooled key map as a unit vector.

    The window grows with the view so that the number of cells stays level: side 3, 4, 5 and stride
    1, 2, 2 at the published sizes 224, 384 and 480, by side 1 + ⌊S / 112⌋ and stride ⌊side / 2⌋.

    Args:
        feature_map (Tensor): (N, C, H, W), a pyramid level of the key views.
        view_size (int): S, side of the views in pixels.

    Returns:
        Tensor: (N·H′·W′, C).
    """
    side = 1 + view_size // 112
    cells = F.avg_pool2d(feature_map, side, stride=max(side // 2, 1))
    # NCCL gathers contiguous memory only
    return F.normalize(cells.permute(0, 2, 3, 1).flatten(0, 2), dim=1).contiguous()


@MODELS.register_module()
class CrossCLHead(BaseModule):
    """Weighs the contrasts between levels of two views.

    Args:
        terms (Sequence[dict]): What is contrasted. Each has ``query`` and ``key``, the name of a
            level of the neck's output or 'global'; ``negatives``, 'queue' for the global vectors
            and, for the cells of key level maps, 'all_ranks' or 'own_rank'; and optionally
            ``weight``, by default 1.
        loss (dict): The contrastive loss. Defaults to :class:`InfoNCELoss` at temperature 0.2.
        roi_layer (dict): How a region is pooled from a level; see :class:`RegionPooling`. Defaults
            to mmcv's RoIAlign without half-pixel shift.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        InputError: If a term names an unknown level or source of negatives, or is given twice.
    """

    def __init__(
        self,
        terms: Sequence[Mapping],
        loss: dict = dict(type='mmcrosscl.InfoNCELoss', temperature=0.2),
        roi_layer: dict = dict(type='RoIAlign', output_size=1, sampling_ratio=0, aligned=False),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.terms = tuple(self._term(term) for term in terms)
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise InputError(f'terms are {names}; give at least one, and each once')
        regional = sorted(self.levels - {GLOBAL})
        self.region_pooling = RegionPooling(tuple(regional), roi_layer)
        self.loss_module = MODELS.build(loss)

    @property
    def levels(self) -> set[str]:
        """Names of all that the terms contrast."""
        return {level for term in self.terms for level in (term.query, term.key)}

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
                f'term {settings}: "global" meets "global" with negatives "queue", and a '
                'pyramid level meets a pyramid level with negatives "all_ranks" or "own_rank"'
            )
        return term

    def negatives(self, key: dict[str, Tensor], view_size: int) -> dict[str, Callable[[], Tensor]]:
        """Begin to bring together what the regional terms' queries will meet.

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
        data_samples: list[DataSample],
        view_size: int,
    ) -> dict[str, Tensor]:
        """Contrast the levels of two views of N images.

        Args:
            query (dict[str, Tensor]): The neck's output for the query views, with gradient.
            key (dict[str, Tensor]): The neck's output for the key views, without.
            negatives (dict[str, Callable]): Gives the (K, C) unit vectors that a term's queries
                meet: 'queue' past keys, and what :meth:`negatives` returned.
            data_samples (list[DataSample]): N samples with ``query_regions`` (R, 4) and
                ``key_regions`` (R, 4) in pixels of their view, and ``paired`` (R,) bool, all
                arrays in host memory.
            view_size (int): S, side of the views in pixels.

        Returns:
            dict[str, Tensor]: Per term its weighted loss, ``loss_global`` or ``loss_p4_p3`` (query
            level first), and its top-1 accuracy in percent, ``acc_global`` or ``acc_p4_p3``.

        Raises:
            InputError: If the strides do not divide S or a sample has no regions.
        """
        device = next(iter(query.values())).device
        with torch.autocast(device.type, enabled=False):
            query = {name: _full_precision(x) for name, x in query.items()}
            key = {name: _full_precision(x) for name, x in key.items()}
            rois = _paired_rois(data_samples, 'query_regions', device)
            queries = {
                level: self._vectors(query, level, rois, view_size)
                for level in dict.fromkeys(term.query for term in self.terms)
            }
            rois = _paired_rois(data_samples, 'key_regions', device)
            keys = {
                level: self._vectors(key, level, rois, view_size)
                for level in dict.fromkeys(term.key for term in self.terms)
            }
            results = {}
            # all that meets the same negatives meets them at once
            for meets in dict.fromkeys(term.negatives_key for term in self.terms):
                terms = [term for term in self.terms if term.negatives_key == meets]
                results |= zip(
                    terms,
                    zip(
                        *self.loss_module(
                            torch.stack([queries[term.query] for term in terms]),
                            torch.stack([keys[term.key] for term in terms]),
                            negatives[meets](),
                        )
                    ),
                )
            losses = {}
            for term in self.terms:
                loss, accuracy = results[term]
                losses[f'loss_{term.name}'] = term.weight * loss
                losses[f'acc_{term.name}'] = accuracy
            # what is a key alone still needs a place in the graph: between ranks every parameter's
            # gradient is waited for
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
        feature_map = features[level]
        if feature_map.shape[-1] * level_stride(level) != view_size:
            raise InputError(
                f'view size {view_size} is not a multiple of the strides (level {level} has '
                f'{feature_map.shape[-1]} cells); use a multiple of 32'
            )
        return F.normalize(self.region_pooling(feature_map, level, rois), dim=1)


def _paired_rois(data_samples: list[DataSample], regions: str, device: torch.device) -> Tensor:
    """(ΣR, 5), image index and box of the regions that have a pair, as RoI ops take them."""
    if any(regions not in sample or 'paired' not in sample for sample in data_samples):
        raise InputError(
            f'a data sample has no {regions!r} or no "paired"; put mmcrosscl.RegionPairs and '
            'mmcrosscl.PackViews into the pipeline'
        )
    # chosen in host memory: a device would have to be waited for to know how many there are
    rois = np.concatenate(
        [
            np.pad(sample.get(regions)[sample.paired], ((0, 0), (1, 0)), constant_values=index)
            for index, sample in enumerate(data_samples)
        ]
    )
    return to_device(torch.from_numpy(rois), device)


def _full_precision(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
