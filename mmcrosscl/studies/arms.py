"""The arms of a study: what a detector starts from."""

import re
from dataclasses import dataclass
from pathlib import Path

from mmcrosscl.errors import InputError

RANDOM = 'random'
# stands for the weights that the detector's own config loads
OWN = 'own'
PRETRAINED = re.compile(
    r'(?P<terms>global|within|crosscl)(?:@(?P<changes>[^+]+))?(?:\+weights(?:=(?P<weights>.+))?)?'
)
WEIGHTS = re.compile(r'weights(?:=(?P<weights>.+))?')


@dataclass(frozen=True)
class Arm:
    """An arm of a study.

    Attributes:
        name: Name in tables.
        terms: Loss terms of the pre-training, see :func:`mmcrosscl.pretrain`; None for an arm
            without pre-training.
        weights: Checkpoint that the pre-training, or without it the detector, starts from. 'own' is
            the initialization that the detector's config defines. None is random weights.
        changes: Config file with settings that change the pre-training.
    """

    name: str
    terms: str | None = None
    weights: str | None = None
    changes: str | None = None

    @property
    def is_random(self) -> bool:
        """Whether the detector starts from random weights."""
        return self.terms is None and self.weights is None


def parse_arm(text: str) -> Arm:
    """Return the arm that a word of `--arms` describes.

    - ``random``: random weights.
    - ``global``, ``within``, ``crosscl``: pre-training with these loss terms from random weights.
    - ``weights``: the initial weights of the detector's config, and ``weights=FILE``: a checkpoint.
    - ``crosscl+weights`` and ``crosscl+weights=FILE``: pre-training that starts from them.
    - ``crosscl@CONFIG``: pre-training with settings from a config file; see
      :func:`mmcrosscl.pretrain`.

    Raises:
        InputError: If the text is none of these, or a file does not exist.
    """
    if text == RANDOM:
        return Arm(RANDOM)
    if match := WEIGHTS.fullmatch(text):
        return Arm(_name(text), weights=_weights(match['weights']))
    if (match := PRETRAINED.fullmatch(text)) is None:
        raise InputError(
            f'arm {text} is unknown; expected random, weights, weights=FILE, or one of global, '
            'within and crosscl, optionally followed by @CONFIG and then by +weights or '
            '+weights=FILE'
        )
    starts = '+weights' in text
    if (changes := match['changes']) is not None:
        changes = _existing(changes)
    weights = _weights(match['weights']) if starts else None
    return Arm(_name(text), match['terms'], weights, changes)


def _weights(path: str | None) -> str:
    return OWN if path is None else _existing(path)


def _existing(path: str) -> str:
    if not Path(path).is_file():
        raise InputError(f'{path} does not exist; name a file in --arms')
    return str(Path(path).resolve())


def _name(text: str) -> str:
    """Return the text with the stems of its files."""
    return re.sub(r'(?<=[=@])[^+@]+', lambda path: Path(path.group()).stem, text)
