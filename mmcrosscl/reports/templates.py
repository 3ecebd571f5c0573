"""Rendering of the HTML templates of this folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2

from mmcrosscl.version import __version__

HERE = Path(__file__).parent


def render_template(name: str, filters: Mapping[str, Callable], **values: object) -> str:
    """Return the HTML of a template, in which all text is escaped.

    Args:
        name (str): File name of the template.
        filters (Mapping[str, Callable]): Functions that the template calls as filters.
        **values: Variables of the template, besides ``style``, the style sheet, and ``version``.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    style = (HERE / 'report.css').read_text()
    page = environment.get_template(name).render(style=style, version=__version__, **values)
    # file names may contain bytes that are not valid UTF-8
    return page.encode(errors='backslashreplace').decode()
