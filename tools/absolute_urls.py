"""Write absolute links to the README of a copy of the project, for a package index.

    python tools/absolute_urls.py FOLDER https://github.com/OWNER/NAME COMMIT

The workflow runs it before it builds the package. Pictures lead to raw.githubusercontent.com, other
links to the files of the commit. `setup.cfg` gets the addresses of the project.
"""

import re
import sys
from pathlib import Path

CODE_BLOCK = re.compile(r'(```.*?```)', re.DOTALL)
LINK = re.compile(r'(!?)(\[[^]]*\])\(([^)\s]+)\)')
PROJECT_URLS = 'project_urls =\n'


def with_absolute_links(text: str, repository: str, commit: str) -> str:
    """Return a Markdown text whose relative links lead to the files of a commit.

    Args:
        text (str): Contents of the README.
        repository (str): Address of the repository on GitHub.
        commit (str): Hash of the commit, or a tag.
    """
    raw = repository.replace('https://github.com/', 'https://raw.githubusercontent.com/')

    def replace(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        if '://' in target:
            return match[0]
        if target.startswith('#'):
            target = f'README.md{target}'
        folder = f'{raw}/{commit}' if picture else f'{repository}/blob/{commit}'
        return f'{picture}{label}({folder}/{target})'

    parts = CODE_BLOCK.split(text)
    # every second part is a code block
    parts[::2] = [LINK.sub(replace, part) for part in parts[::2]]
    return ''.join(parts)


def main(folder: str, repository: str, commit: str) -> None:
    readme, settings = Path(folder, 'README.md'), Path(folder, 'setup.cfg')
    readme.write_text(with_absolute_links(readme.read_text(), repository, commit))
    before, found, after = settings.read_text().partition(PROJECT_URLS)
    if not found:
        sys.exit(f'{settings} has no project_urls')
    addresses = dict(
        Source=repository,
        Documentation=f'{repository}#documentation',
        Issues=f'{repository}/issues',
    )
    lines = ''.join(f'    {name} = {address}\n' for name, address in addresses.items())
    settings.write_text(before + found + lines + after)


if __name__ == '__main__':
    main(*sys.argv[1:])
