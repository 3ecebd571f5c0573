"""Similarity of regions between levels, views and objects, as arithmetic on region vectors."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# products of one block of regions with all regions, which are in memory at the same time
BLOCK = 2**24
DRAWS = 1000
QUANTILES = (0.025, 0.975)


class Estimate(NamedTuple):
    """A statistic and its 95 % interval."""

    value: float
    low: float
    high: float


class Similarity(NamedTuple):
    """Similarity of each region to itself and to other objects; all tensors are (R,).

    Attributes:
        same: Cosine similarity of the two vectors of the region.
        other: Mean cosine similarity of the region's query vector to the key vectors of other
            objects. NaN if there is no other object.
        hit: 1 if the key vector of the region is more similar to its query vector than the key
            vector of every other object, else 0.
    """

    same: Tensor
    other: Tensor
    hit: Tensor


def compare_regions(query: Tensor, key: Tensor, image: Tensor, boxes: Tensor) -> Similarity:
    """Compare the query vector of each region with the key vectors of all regions.

    Regions of other images are other objects, and so are regions of the same image that do not
    overlap. Overlapping regions of the same image show the same pixels and are omitted.

    Args:
        query (Tensor): (R, C), unit length.
        key (Tensor): (R, C), unit length; row r is the same region as row r of ``query``.
        image (Tensor): (R,) integers, the image of each region.
        boxes (Tensor): (R, 4), x0, y0, x1, y1 of each region in one view, in pixels.

    Returns:
        Similarity: (R,) per field, on the CPU in float64.
    """
    regions = len(query)
    if not regions:
        return Similarity(*torch.zeros(3, 0, dtype=torch.float64))
    fields = []
    for block in torch.arange(regions, device=query.device).split(max(1, BLOCK // regions)):
        scores = query[block] @ key.T
        rows = torch.arange(len(block), device=query.device)
        same = scores[rows, block]
        others = ~((image[block, None] == image[None]) & _overlap(boxes[block, None], boxes[None]))
        others[rows, block] = False
        count = others.sum(1)
        mean = scores.where(others, 0).sum(1, dtype=torch.float64) / count
        greatest = scores.where(others, -torch.inf).amax(1)
        fields.append((same.double(), mean, ((same > greatest) & (count > 0)).double()))
    return Similarity(*(torch.cat(field).cpu() for field in zip(*fields)))


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    return ((a[..., :2] < b[..., 2:]) & (b[..., :2] < a[..., 2:])).all(-1)


def bootstrap(values: Tensor, image: Tensor, draws: int = DRAWS, seed: int = 0) -> list[Estimate]:
    """Return the mean of each column, with percentile intervals of a bootstrap over images.

    Images are resampled instead of regions, because the regions of an image are not independent.
    Section 13.3 of Efron and Tibshirani, 1993, "An Introduction to the Bootstrap".

    Args:
        values (Tensor): (R, K), one row per region. Rows with NaN are omitted.
        image (Tensor): (R,) integers, the image of each region.
        draws (int): Number of resamples. Defaults to 1,000.
        seed (int): Seed of the resampling. Defaults to 0.

    Returns:
        list[Estimate]: K means with their intervals; NaN if there are no rows.
    """
    valid = ~values.isnan().any(1)
    values, image = values[valid].double(), image[valid].cpu()
    if not len(values):
        return [Estimate(np.nan, np.nan, np.nan)] * values.shape[1]
    _, image = image.unique(return_inverse=True)
    images = int(image.max()) + 1
    columns = torch.cat((values, torch.ones(len(values), 1, dtype=torch.float64)), dim=1)
    sums = torch.zeros(images, columns.shape[1], dtype=torch.float64).index_add_(0, image, columns)
    drawn = resampling_weights(images, draws, seed) @ sums
    means = drawn[:, :-1] / drawn[:, -1:]
    low, high = means.quantile(torch.tensor(QUANTILES, dtype=torch.float64), dim=0)
    center = values.mean(0)
    return [Estimate(*map(float, each)) for each in zip(center, low, high)]


def resampling_weights(images: int, draws: int, seed: int) -> Tensor:
    """Return how often each image occurs in each resample, (draws, images) float64."""
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), draws)
    return torch.from_numpy(drawn.astype(np.float64))


def linear_cka(x: Tensor, y: Tensor, image: Tensor, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Return linear centered kernel alignment, with an interval of a bootstrap over images.

    Section 3 of Kornblith et al., 2019 (https://arxiv.org/abs/1905.00414). It compares
    representations of different widths, is 1 if they are equal up to rotation and scale, and is
    between 0 and 1.

    The alignment is a ratio of sums over pairs of regions. A resample weights the sums of each pair
    of images. Pairs of two copies of one image are omitted, because they are more similar than any
    pair in the data and would increase the alignment of every resample.

    Args:
        x (Tensor): (R, C), one row per region. Memory is O(R²).
        y (Tensor): (R, D).
        image (Tensor): (R,) integers, the image of each region.
        draws (int): Number of resamples. Defaults to 1,000.
        seed (int): Seed of the resampling. Defaults to 0.

    Returns:
        Estimate: The alignment; NaN if all rows of ``x`` or of ``y`` are equal.
    """
    x, y = (z.double().cpu() - z.double().cpu().mean(0) for z in (x, y))
    first, second = x @ x.T, y @ y.T
    _, image = image.cpu().unique(return_inverse=True)
    images = int(image.max()) + 1
    weights = resampling_weights(images, draws, seed)
    # the first row is the sample itself
    weights = torch.cat((torch.ones(1, images, dtype=torch.float64), weights))
    products = []
    for a, b in ((first, second), (first, first), (second, second)):
        pairs = torch.zeros(images, len(x), dtype=torch.float64).index_add_(0, image, a * b)
        pairs = torch.zeros(images, images, dtype=torch.float64).index_add_(1, image, pairs)
        copies = (weights - weights**2) @ pairs.diagonal()
        products.append(((weights @ pairs) * weights).sum(1) + copies)
    values = (products[0] / (products[1] * products[2]).sqrt()).clamp(0, 1)
    if values.isnan().any():
        return Estimate(np.nan, np.nan, np.nan)
    low, high = values[1:].quantile(torch.tensor(QUANTILES, dtype=torch.float64))
    return Estimate(float(values[0]), float(low), float(high))
