"""Results of `mmcrosscl similarity` in a work dir."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# estimate, and lower and upper bound of its interval; NaN where it is unknown
Estimate = tuple[float, float, float]
FIELDS = ('same', 'other', 'margin', 'recall')


@dataclass(frozen=True)
class LevelRow:
    """Similarity of one checkpoint between two levels; see :class:`LevelPair`."""

    checkpoint: str
    same: Estimate
    other: Estimate
    margin: Estimate
    recall: Estimate


@dataclass(frozen=True)
class SimilarityResults:
    """Contents of a ``similarity.json``, and the pictures beside it.

    Attributes:
        path: The file.
        description: What was measured.
        levels: Rows of the checkpoints, by the title of the pair of levels.
        stages: Linear CKA of the checkpoints, by the title of the pair of backbone stages.
        collapsed: One sentence for each checkpoint whose regions are all alike.
        pictures: PNG files.
    """

    path: Path
    description: str
    levels: dict[str, list[LevelRow]]
    stages: dict[str, dict[str, Estimate]]
    collapsed: list[str]
    pictures: list[Path]

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints with backbone stages, in the order of the file."""
        return list(dict.fromkeys(name for values in self.stages.values() for name in values))


def find_similarities(work_dir: Path) -> list[Path]:
    """Return the files ``similarity.json`` in a work dir and in its folders."""
    return sorted([*work_dir.glob('similarity.json'), *work_dir.glob('*/similarity.json')])


def read_similarity(path: Path) -> SimilarityResults:
    """Read a ``similarity.json``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file does not have the format of `mmcrosscl similarity`.
    """
    try:
        contents = json.loads(path.read_text())
        levels: dict[str, list[LevelRow]] = {}
        stages: dict[str, dict[str, Estimate]] = {}
        collapsed = []
        for checkpoint in contents['checkpoints']:
            name = str(checkpoint['name'])
            for row in checkpoint['rows']:
                if row['kind'] == 'levels':
                    levels.setdefault(_title(row), []).append(
                        LevelRow(name, *(_estimate(row[field]) for field in FIELDS))
                    )
                else:
                    pair = ' and '.join(str(stage).upper() for stage in row['stages'])
                    stages.setdefault(pair, {})[name] = _estimate(row['cka'])
            if alike := checkpoint.get('collapsed'):
                where = ' and '.join(str(level).upper() for level in alike)
                collapsed.append(
                    f'{name}: the vectors of all regions are alike on {where} (collapse).'
                )
        description = (
            f'{int(contents["objects"]):,} {contents["regions"]} in {int(contents["images"]):,} '
            f'images of {contents["data"]}, views of {int(contents["view_size"])} pixels.'
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f'{error!r} in an unknown format') from error
    # the figure that is written with the results
    pictures = [figure for figure in [path.parent / 'maps.png'] if figure.is_file()]
    return SimilarityResults(path, description, levels, stages, collapsed, pictures)


def _title(row: Mapping) -> str:
    where = 'between two views' if row['views'] == 2 else 'in one view'
    return f'{str(row["query"]).upper()} and {str(row["key"]).upper()}, {where}'


def _estimate(values: Iterable) -> Estimate:
    value, low, high = (math.nan if x is None else float(x) for x in values)
    return value, low, high
