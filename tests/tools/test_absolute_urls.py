"""The README and the addresses of a package that the workflow builds."""

import re
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path

REPOSITORY = 'https://github.com/someone/mmcrosscl'
FILES = ('README.md', 'LICENSE', 'setup.cfg', 'pyproject.toml', 'mmcrosscl/version.py')
WRITE_METADATA = 'from setuptools.build_meta import *; prepare_metadata_for_build_wheel("built")'


def test_the_metadata_of_the_package_have_no_relative_links(tmp_path):
    shutil.copytree('requirements', tmp_path / 'requirements')
    (tmp_path / 'mmcrosscl').mkdir()
    for name in FILES:
        shutil.copy(name, tmp_path / name)
    words = ['tools/absolute_urls.py', tmp_path, REPOSITORY, 'a1b2c3']
    subprocess.run([sys.executable, *words], check=True)
    (tmp_path / 'built').mkdir()
    subprocess.run(
        [sys.executable, '-c', WRITE_METADATA], cwd=tmp_path, check=True, capture_output=True
    )
    (path,) = tmp_path.glob('built/*.dist-info/METADATA')
    metadata = message_from_string(path.read_text())
    text = metadata.get_payload()
    links = re.findall(r'(!?)\[[^]]*\]\(([^)]+)\)', text)
    assert len(links) > 30 and all(target.startswith('https://') for _, target in links)
    pictures = [target for picture, target in links if picture]
    assert pictures == [
        f'https://raw.githubusercontent.com/someone/mmcrosscl/a1b2c3/docs/{name}'
        for name in ('crosscl.svg', 'report.png')
    ]
    assert f'({REPOSITORY}/blob/a1b2c3/docs/detectors.md)' in text
    # every link leads to a file of the commit
    for _, target in links:
        if f'{REPOSITORY}/' in target:
            assert Path(re.sub('.*/a1b2c3/|#.*', '', target)).is_file(), target
    assert {
        f'Source, {REPOSITORY}',
        f'Documentation, {REPOSITORY}#documentation',
        f'Issues, {REPOSITORY}/issues',
        'Method (paper), https://ieeexplore.ieee.org/document/10219835',
    } == set(metadata.get_all('Project-URL'))


def test_links_within_the_readme_pictures_and_code():
    sys.path.insert(0, 'tools')
    from absolute_urls import with_absolute_links

    text = 'a [b](c.md)\n```python\nx[i](y)\n```\n![d](e.png) [f](#g)\n'
    assert with_absolute_links(text, 'https://github.com/o/n', 'v1') == (
        'a [b](https://github.com/o/n/blob/v1/c.md)\n```python\nx[i](y)\n```\n'
        '![d](https://raw.githubusercontent.com/o/n/v1/e.png) '
        '[f](https://github.com/o/n/blob/v1/README.md#g)\n'
    )
