"""Formulas as MathML, which browsers render without a script."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

# The theme scrolls wide formulas. Without a margin, parts of high ones would need scroll bars too.
BLOCK = '<div style="padding: 0.5em 0">{}</div>\n'


def write_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    translator.body.append(BLOCK.format(tex2mathml(node.astext(), as_block=True)))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the renderer ``mathml`` for the setting ``html_math_renderer``."""
    app.add_html_math_renderer('mathml', (write_inline, None), (write_block, None))
