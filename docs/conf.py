"""Configuration of Sphinx. `make docs` builds the site in docs/_build/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from components import write_components  # noqa: E402

from mmcrosscl.version import __version__  # noqa: E402

project = 'mmcrosscl'
author = 'The mmcrosscl contributors'
copyright = author
release = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
    # in this folder; the default renderer loads a script from another server
    'mathml',
]
html_math_renderer = 'mathml'
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = 'mmcrosscl'
html_show_sphinx = False
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'

write_components(Path(__file__).parent / 'reference' / 'components.md')
