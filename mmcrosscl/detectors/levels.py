"""The levels of a detector that pre-training contrasts, and the loss terms."""

from collections.abc import Sequence

PAPER = (16, 8)  # strides of P4 and P3
# the paper's ablations, from the least to all of the loss terms
TERMS = ('global', 'within', 'crosscl')


def choose_levels(strides: Sequence[int]) -> dict[str, int]:
    """Choose the levels to contrast.

    These are P4 and P3, as in the paper, if the neck has both. Otherwise they are the two finest
    levels of which one has twice the stride of the other, or else the finest level alone.

    Args:
        strides (Sequence[int]): Stride in pixels of each map that the neck returns. Strides that
            are not a power of two are ignored.

    Returns:
        dict[str, int]: Name and stride of one or two levels, the coarser one first. The name is 'p'
        and the base-2 logarithm of the stride. Empty if no stride is a power of two.
    """
    usable = sorted({stride for stride in strides if stride > 0 and stride & (stride - 1) == 0})
    pairs = [(2 * stride, stride) for stride in usable if 2 * stride in usable]
    chosen = PAPER if PAPER in pairs else pairs[0] if pairs else usable[:1]
    return {f'p{stride.bit_length() - 1}': stride for stride in chosen}


def choose_terms(levels: dict[str, int], terms: str = 'crosscl') -> list[dict[str, str]]:
    """Return the loss terms for levels from :func:`choose_levels`.

    The negatives of a key level are its cells from all ranks. For the finer one of two levels, and
    for a single level that is finer than P4, they are from the same rank only.

    Args:
        levels (dict[str, int]): Name and stride of one or two levels, the coarser one first.
        terms (str): 'crosscl' for the paper's terms, which are the global term, each level with
            itself, and each level with the other; or one of its ablations: 'within' for the terms
            without those of two levels, or 'global' for the global term alone, as in MoCo v2.
            Defaults to 'crosscl'.
    """
    if len(levels) == 2:
        coarse, fine = levels
        negatives = {coarse: 'all_ranks', fine: 'own_rank'}
        pairs = [(coarse, coarse), (fine, fine), (coarse, fine), (fine, coarse)]
    else:
        ((level, stride),) = levels.items()
        negatives = {level: 'all_ranks' if stride >= PAPER[0] else 'own_rank'}
        pairs = [(level, level)]
    if terms == 'global':
        pairs = []
    elif terms == 'within':
        pairs = [(query, key) for query, key in pairs if query == key]
    regional = [dict(query=query, key=key, negatives=negatives[key]) for query, key in pairs]
    return [dict(query='global', key='global', negatives='queue'), *regional]
