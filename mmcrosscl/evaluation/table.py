"""Text table of a comparison."""

from collections import Counter

from .comparison import Comparison
from .metric import TWO_VIEWS
from .similarity import Estimate

COLUMNS = dict(same='same object', other='other objects', margin='margin', recall='recall@1')
WIDTH = 22


def comparison_table(comparison: Comparison) -> str:
    """Format a comparison as text: a block of rows per pair of levels, and one for the stages.

    Of several checkpoints, only the pairs of levels or stages that two of them have are listed.

    Args:
        comparison (Comparison): See :func:`compare_checkpoints`.
    """
    measured = comparison.checkpoints
    indent = 2 + max(len(each.name) for each in measured)
    lines = [
        f'{comparison.objects:,} {comparison.regions} in {comparison.images:,} images of '
        f'{comparison.data}, views of {comparison.view_size} pixels',
        'Each cell is a mean with its 95 % interval.',
    ]
    counts = Counter(
        (pair.query, pair.key, pair.views) for each in measured for pair in each.levels
    )
    # a pair of levels that a single checkpoint has is no comparison
    least = min(2, sum(bool(each.levels) for each in measured))
    pairs = [pair for pair, count in counts.items() if count >= least]
    for query, key, views in pairs:
        where = 'between two views' if views == TWO_VIEWS else 'in one view'
        title = f'{query.upper()} and {key.upper()}, {where}'
        lines += ['', title, _row('', COLUMNS.values(), indent)]
        for each in measured:
            for pair in each.levels:
                if (pair.query, pair.key, pair.views) == (query, key, views):
                    cells = [cell(getattr(pair, field), field == 'recall') for field in COLUMNS]
                    lines.append(_row(each.name, cells, indent))
    found = Counter(pair.stages for each in measured for pair in each.stages)
    stages = sorted(pair for pair, count in found.items() if count >= min(2, len(measured)))
    if stages:
        lines += ['', 'Backbone stages in one view, linear CKA']
        lines.append(_row('', [' and '.join(pair).upper() for pair in stages], indent))
    for each in measured if stages else ():
        by_stages = {pair.stages: cell(pair.cka) for pair in each.stages}
        lines.append(_row(each.name, [by_stages.get(pair, '') for pair in stages], indent))
    notes = []
    for each in measured:
        if each.collapsed:
            notes.append(
                f'{each.name}: the vectors of all regions are alike on '
                f'{" and ".join(each.collapsed).upper()} (collapse).'
            )
        if not each.levels:
            notes.append(
                f'{each.name} has no weights for the levels of the neck, so only the backbone is '
                'compared.'
            )
    return '\n'.join([*lines, *([''] if notes else []), *notes])


def cell(estimate: Estimate, percent: bool = False) -> str:
    """Format an estimate with its interval, such as '0.52 [0.48, 0.55]' or '52 % [48, 55]'."""
    value, low, high = (100 * x if percent else x for x in estimate)
    if percent:
        return f'{value:.0f} % [{low:.0f}, {high:.0f}]'
    return f'{value:.2f} [{low:.2f}, {high:.2f}]'


def _row(name: str, cells, indent: int) -> str:
    return f'  {name:{indent}}' + ''.join(f'{text:>{WIDTH}}' for text in cells)
