"""The texts of `--cfg-options`: values that are parsed, and values and options that are written."""

import ast
import os
from collections.abc import Iterator, Mapping

from mmengine.config import DictAction

from mmcrosscl.errors import InputError

OPENING, CLOSING = '[(', '])'


def parse_value(text: str) -> object:
    """Parse a value of `--cfg-options`.

    The syntax is that of MMEngine: numbers, booleans, None, ``[a,b]``, ``(a,b)`` and ``a,b`` for
    lists and tuples, and otherwise text. In contrast to MMEngine, spaces in a text are kept, and
    quotes keep a text with commas or with the form of a number.

    Args:
        text (str): The text after the ``=``.

    Raises:
        ValueError: If a bracket is not closed.
    """
    text = text.strip()
    if (literal := _quoted(text)) is not None:
        # the shell has not removed the quotes of a list in all cases
        return parse_value(literal) if literal.startswith(tuple(OPENING)) else literal
    items = list(_split(text))
    if len(items) > 1:
        return [parse_value(item) for item in items]
    if text.startswith(tuple(OPENING)):
        if not text.endswith(CLOSING[OPENING.index(text[0])]):
            raise ValueError(f'the brackets of {text} do not match')
        values = [parse_value(item) for item in _split(text[1:-1])]
        return tuple(values) if text[0] == '(' else values
    # private, but the only function of MMEngine for a single value
    return DictAction._parse_int_float_bool(text)


def format_value(value: object) -> str:
    """Return the text that :func:`parse_value` parses to a value without dicts."""
    if isinstance(value, list | tuple):
        opening, closing = '[]' if isinstance(value, list) else '()'
        return opening + ','.join(map(format_value, value)) + closing
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(value, str):
        return str(value)
    # an item of a list must not be empty
    plain = (
        value and not set(value) & set('\'",' + OPENING + CLOSING) and parse_value(value) == value
    )
    return value if plain else repr(value)


def format_options(options: Mapping[str, object]) -> list[str]:
    """Return the texts ``name=value`` that `--cfg-options` parses to these options.

    Args:
        options (Mapping): Maps names to values. A dict stands for its items, with dotted names.

    Raises:
        InputError: If a dict is empty or within a list.
    """
    texts = []
    for name, value in _flatten(options):
        if _has_dict(value):
            what = 'is an empty dict' if isinstance(value, Mapping) else 'contains a dict in a list'
            raise InputError(
                f'the option {name} {what}, which a command line cannot express; write a config '
                'that inherits from the config in the work dir, and train with it'
            )
        texts.append(f'{name}={format_value(value)}')
    return texts


def _flatten(options: Mapping, prefix: str = '') -> Iterator[tuple[str, object]]:
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value


def _has_dict(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_dict, value))
    return isinstance(value, Mapping)


def _quoted(text: str) -> str | None:
    """Return the contents of a text that is one quoted string, or None."""
    if len(text) > 1 and text[0] in '\'"' and text[0] == text[-1]:
        try:
            literal = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return None
        if isinstance(literal, str):
            return literal
    return None


def _split(text: str) -> Iterator[str]:
    """Yield the parts between the commas that are in no brackets and no quotes."""
    depth, begin, quote, previous = 0, 0, '', ','
    for position, character in enumerate(text):
        if quote:
            quote = '' if character == quote and previous != '\\' else quote
        elif character in '\'"' and previous in ',' + OPENING:
            quote = character
        elif character in OPENING:
            depth += 1
        elif character in CLOSING:
            depth -= 1
        elif character == ',' and depth == 0:
            yield text[begin:position]
            begin = position + 1
        if not character.isspace():
            previous = character
    if text[begin:].strip():
        yield text[begin:]
