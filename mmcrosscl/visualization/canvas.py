"""Figures whose parts are placed in inches from the upper left corner, as arrays of pixels."""

import warnings
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def new_figure(width: float, height: float, dpi: int) -> Figure:
    """Return an empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def place_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes without ticks."""
    full_width, full_height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / full_width, 1 - (top + height) / full_height, width / full_width,
         height / full_height)
    )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    return axes


def place_text(figure: Figure, left: float, top: float, text: str, **settings) -> Text:
    """Add text that is centered vertically and is not parsed as a formula.

    Args:
        figure (Figure): The figure.
        left (float): Position in inches.
        top (float): Position in inches.
        text (str): The text. Characters that cannot be printed are replaced.
        **settings: Properties of :class:`matplotlib.text.Text`.
    """
    full_width, full_height = figure.get_size_inches()
    settings = {'va': 'center', 'parse_math': False, **settings}
    return figure.text(left / full_width, 1 - top / full_height, printable(text), **settings)


def printable(text: str) -> str:
    """Replace control characters and invalid Unicode, which file names may contain."""
    return ''.join(character if character.isprintable() else '\ufffd' for character in text)


def shorten(text: str, length: int) -> str:
    """Replace the middle of a long text, so that it has at most ``length`` characters."""
    if len(text) <= length:
        return text
    end = length // 2
    return f'{text[: length - end - 1]}…{text[-end:]}'


def pixels(figure: Figure) -> np.ndarray:
    """Render a figure as (H, W, 3) uint8, RGB."""
    canvas = cast(FigureCanvasAgg, figure.canvas)
    with warnings.catch_warnings():
        # file names may contain characters that matplotlib's font does not have
        warnings.filterwarnings('ignore', r'Glyph \d+')
        canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()
