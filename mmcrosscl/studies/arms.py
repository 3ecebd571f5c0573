"""The arms of a study: what a detector starts from."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmcrosscl.errors import InputError

RANDOM = 'random'
# stands for the weights that the detector's own config loads
OWN = 'own'
PRETRAINED = re.compile(
    r'(?P<terms>global|within|crosscl)(?:@(?P<changes>.+?))?(?P<starts>\+weights(?:=(?P<weights>.+))?)?'
)
WEIGHTS = re.compile(r'weights(?:=(?P<weights>.+))?')


@dataclass(frozen=True)
class Arm:
    """An arm of a study.

    Attributes:
        terms: Loss terms of the pre-training, see :func:`mmcrosscl.pretrain`; None for an arm
            without pre-training.
        weights: Checkpoint that the pre-training, or without it the detector, starts from. 'own' is
            the initialization that the detector's config defines. None is random weights.
        changes: Config file with settings that change the pre-training.
    """

    terms: str | None = None
    weights: str | None = None
    changes: str | None = None

    @property
    def is_random(self) -> bool:
        """Whether the detector starts from random weights."""
        return self.terms is None and self.weights is None

    @property
    def name(self) -> str:
        """Name in tables, with the stems of the files."""
        return self._text(lambda path: Path(path).stem)

    @property
    def text(self) -> str:
        """The word of `--arms` for this arm, with the paths of the files."""
        return self._text(str)

    def _text(self, form: Callable[[str], str]) -> str:
        if self.is_random:
            return RANDOM
        parts = []
        if self.terms is not None:
            parts.append(self.terms + ('' if self.changes is None else f'@{form(self.changes)}'))
        if self.weights is not None:
            parts.append('weights' + ('' if self.weights == OWN else f'={form(self.weights)}'))
        return '+'.join(parts)


def parse_arm(text: str) -> Arm:
    """Return the arm that a word of `--arms` describes.

    - ``random``: random weights.
    - ``global``, ``within``, ``crosscl``: pre-training with these loss terms from random weights.
    - ``weights``: the initial weights of the detector's config, and ``weights=FILE``: a checkpoint.
    - ``crosscl+weights`` and ``crosscl+weights=FILE``: pre-training that starts from them.
    - ``crosscl@CONFIG``: pre-training with settings from a config file; see
      :func:`mmcrosscl.pretrain`.

    Raises:
        InputError: If the text is none of these. Files need not exist; see :func:`check_files`.
    """
    if text == RANDOM:
        return Arm()
    if match := WEIGHTS.fullmatch(text):
        return Arm(weights=_weights(match['weights']))
    if (match := PRETRAINED.fullmatch(text)) is None:
        raise InputError(
            f'arm {text} is unknown; expected random, weights, weights=FILE, or one of global, '
            'within and crosscl, optionally followed by @CONFIG and then by +weights or '
            '+weights=FILE'
        )
    if (changes := match['changes']) is not None:
        changes = str(Path(changes).resolve())
    weights = _weights(match['weights']) if match['starts'] else None
    return Arm(match['terms'], weights, changes)


def _weights(path: str | None) -> str:
    return OWN if path is None else str(Path(path).resolve())


def check_files(arm: Arm) -> None:
    """Raise an error if a file of an arm does not exist.

    Raises:
        InputError: If the checkpoint or the config does not exist.
    """
    for path in (arm.weights, arm.changes):
        if path not in (None, OWN) and not Path(path).is_file():
            raise InputError(f'{path} does not exist; name a file in --arms')
