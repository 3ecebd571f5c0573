"""The regional and global loss terms. The config sets which levels each term contrasts."""

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
# sources of the negatives of a term
QUEUE, ALL_RANKS, OWN_RANK = 'queue', 'all_ranks', 'own_rank'


class Term(NamedTuple):
    """A loss term: query level, key level, source of the negatives, weight in the total loss."""

    query: str
    key: str
    negatives: str
    weight: float = 1.0

    @property
    def name(self) -> str:
        return GLOBAL if self.query == GLOBAL else f'{self.query}_{self.key}'

    @property
    def negatives_key(self) -> str:
        """Name of the set of negatives, 'queue' or source and key level, such as 'own_rank_p3'."""
        return QUEUE if self.negatives == QUEUE else f'{self.negatives}_{self.key}'


def pool_negatives(feature_map: Tensor, view_size: int) -> Tensor:
    """Average-pool a key map and return its cells as unit vectors.

    The pooling window has side 1 + ⌊S / 112⌋, at most the side of the map, and stride ⌊side / 2⌋,
    at least 1. It grows with the view size, which keeps the number of cells about the same. At the
    published view sizes of 224, 384 and 480 pixels, the sides are 3, 4 and 5 and the strides are
    1, 2 and 2.

    Args:
        feature_map (Tensor): (N, C, H, W), a pyramid level of the key views.
        view_size (int): S, side of the views in pixels.

    Returns:
        Tensor: (N·H′·W′, C), unit length, for pooled maps of H′ × W′ cells.
    """
    side = min(1 + view_size // 112, *feature_map.shape[-2:])
    cells = F.avg_pool2d(feature_map, side, stride=max(side // 2, 1))
    # NCCL gathers only contiguous memory
    return F.normalize(cells.permute(0, 2, 3, 1).flatten(0, 2), dim=1).contiguous()


@MODELS.register_module()
class CrossCLHead(BaseModule):
    """Computes the weighted contrastive losses between levels of two views.

    Attributes:
        levels (tuple[str, ...]): Names of the pyramid levels that the terms use, without 'global'.
        strides (dict[str, int]): Stride of each level in ``levels``, in pixels of the view.

    Args:
        terms (Sequence[dict]): The loss terms. Each term has the fields ``query``, ``key`` and
            ``negatives``, and optionally ``weight``, which defaults to 1. In a global term,
            ``query`` and ``key`` are 'global', and ``negatives`` is 'queue'. In a regional term,
            ``query`` and ``key`` are names of pyramid levels. Its negatives are the cells of the
            key level, from every rank ('all_ranks') or only from this rank ('own_rank').
        strides (Mapping[str, int]): Stride of each pyramid level, in pixels of the view.
            :class:`CrossCL` passes the neck's strides. Defaults to an empty dict, which is
            sufficient for global terms.
        loss (dict): Config of the contrastive loss. Defaults to :class:`InfoNCELoss` with
            temperature 0.2.
        roi_layer (dict): Config of the layer of ``mmcv.ops`` that pools a region from a level, as
            in MMDetection's RoI extractors. Defaults to RoIAlign without half-pixel shift.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        InputError: If there are no terms, or a term is invalid, duplicate or of an unknown level.
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
            raise InputError(f'terms are {names}; set at least one term, and each term only once')
        used = dict.fromkeys(level for term in self.terms for level in (term.query, term.key))
        self.levels = tuple(level for level in used if level != GLOBAL)
        if unknown := [level for level in self.levels if level not in strides]:
            raise InputError(
                f'the terms contrast unknown level {", ".join(map(repr, unknown))} (known levels: '
                f"{', '.join(strides) or 'none'}); add the level to the neck's levels, or remove "
                'the level from the terms'
            )
        self.strides = {level: strides[level] for level in self.levels}
        # a list, because a ModuleDict rejects some level names, such as 'keys'
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
                f'term {settings} has unknown or missing fields; set query, key, negatives '
                'and, optionally, weight'
            ) from None
        is_global = {term.query == GLOBAL, term.key == GLOBAL, term.negatives == QUEUE}
        if len(is_global) > 1 or term.negatives not in (QUEUE, ALL_RANKS, OWN_RANK):
            raise InputError(
                f'term {settings} is invalid; contrast "global" with "global" and set negatives '
                'to "queue", or contrast two pyramid levels and set negatives to "all_ranks" or '
                '"own_rank"'
            )
        return term

    def region_vectors(self, feature_map: Tensor, regions: Tensor, level: str) -> Tensor:
        """Pool regions from a pyramid level in the same way as :meth:`loss`.

        Args:
            feature_map (Tensor): (N, C, H, W), the level's map of N views.
            regions (Tensor): (R, 5), on the same device: index of the view, then x0, y0, x1, y1 in
                pixels of the view. :func:`~mmcrosscl.structures.paired_rois` returns the paired
                regions of a batch in this format.
            level (str): One of :attr:`levels`.

        Returns:
            Tensor: (R, C), unit length, in float64 for a float64 map and in float32 otherwise.
        """
        layer = self.roi_layers[self.levels.index(level)]
        return region_vectors(_full_precision(feature_map), regions, layer)

    def negatives(self, key: dict[str, Tensor], view_size: int) -> dict[str, Callable[[], Tensor]]:
        """Start gathering the negatives of the regional terms.

        Args:
            key (dict[str, Tensor]): The neck's output for the key views.
            view_size (int): S, side of the views in pixels.

        Returns:
            dict[str, Callable]: For each :attr:`Term.negatives_key` of a regional term, a function
            that waits for the cells and returns them as (K, C). :meth:`loss` calls the functions.
        """
        cells = {
            level: pool_negatives(_full_precision(key[level]), view_size)
            for level in sorted({term.key for term in self.terms} - {GLOBAL})
        }
        return {
            term.negatives_key: start_gather(cells[term.key])
            if term.negatives == ALL_RANKS
            else partial(cells.__getitem__, term.key)
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
        """Compute the loss and the accuracy of each term for two views of N images.

        Args:
            query (dict[str, Tensor]): The neck's output for the query views, with gradient.
            key (dict[str, Tensor]): The neck's output for the key views, without gradient.
            negatives (dict[str, Callable]): For each :attr:`Term.negatives_key`, a function that
                returns (K, C) unit vectors. The function of 'queue' returns the past keys. The
                other functions are the result of :meth:`negatives`.
            data_samples (list[ViewPairSample]): N samples with the regions of both views.
            view_size (int): S, side of the views in pixels.

        Returns:
            dict[str, Tensor]: The weighted loss of each term, such as ``loss_global`` or
            ``loss_p4_p3`` (query level first), and the top-1 accuracy of each term in percent, such
            as ``acc_global`` or ``acc_p4_p3``.

        Raises:
            InputError: If S is not a multiple of every stride, or a sample has no regions.
        """
        device = next(iter(query.values())).device
        with torch.autocast(device.type, enabled=False):
            query = {name: _full_precision(x) for name, x in query.items()}
            key = {name: _full_precision(x) for name, x in key.items()}
            # regions are selected in host memory, because the host would have to wait for the
            # device to know how many are selected there
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
            results: dict[Term, tuple[Tensor, Tensor]] = {}
            # terms with the same negatives are fastest in one call
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
            # a level that is not the query of any term is still added to the graph, because
            # distributed training waits for the gradient of every parameter
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
                f'level {level} has {feature_map.shape[-1]} cells per side for a view size of '
                f'{view_size}, which does not match its stride {stride}; use a view size that is a '
                f'multiple of {math.lcm(*self.strides.values())} and a backbone whose stages have '
                "the neck's strides"
            )
        return self.region_vectors(feature_map, rois, level)


def _full_precision(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
