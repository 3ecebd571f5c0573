"""The documentation site and its generated reference."""

import re
import subprocess
import sys

import pytest

sys.path.insert(0, 'docs')
from components import components, settings  # noqa: E402

# what a browser loads with a page, unlike the target of a link
EXTERNAL = re.compile(
    r'<(?!a\b)\w+\b[^>]*\b(src|srcset|data)="(\w+:)?//'
    r'|<link\b[^>]*\brel="(stylesheet|preload|icon)"[^>]*\bhref="(\w+:)?//'
    r'|<link\b[^>]*\bhref="(\w+:)?//[^>]*\brel="(stylesheet|preload|icon)"'
    r'|(@import|url\()\s*["\']?(\w+:)?//'
)
REGISTERED = [pytest.param(component, id=name) for _, name, component in components()]


@pytest.mark.parametrize('component', REGISTERED)
def test_every_setting_is_documented(component):
    for name, kind, _, text in settings(component):
        if not name.startswith('**'):
            assert kind and text, f'{component.__name__}: {name}'


def test_the_reference_has_all_kinds_of_components():
    titles = {title for title, *_ in components()}
    assert {'MODELS', 'TRANSFORMS', 'DATASETS', 'HOOKS', 'RUNNERS', 'LOOPS', 'METRICS'} <= titles
    names = {name for _, name, _ in components()}
    assert {'CrossCL', 'TwoCrops', 'KNNClassifier', 'BFloat16OptimWrapper'} <= names


@pytest.mark.slow(40)
def test_the_site_is_built_without_warnings(tmp_path):
    words = ['-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html', 'docs', tmp_path]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / 'reference/components.html').read_text()
    assert 'crop_ratio_range' in page and 'searchindex.js' in {x.name for x in tmp_path.iterdir()}
    assert 'info_nce' in (tmp_path / 'reference/api.html').read_text()
    # the site is complete without a network
    for path in (*tmp_path.rglob('*.html'), *tmp_path.rglob('*.css')):
        assert not EXTERNAL.search(path.read_text()), path
    formulas = (tmp_path / 'how-it-works.html').read_text()
    assert formulas.count('<math') == 14 and formulas.count('display="block"') == 3
