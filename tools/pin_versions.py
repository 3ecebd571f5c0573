"""Write the newest versions of all packages of a stack to requirements/constraints/.

`make constraints` runs it with the Python of the environment. mmcv is not included: a prebuilt
wheel has another version than the source.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / 'requirements'
STACKS = {
    'onedl': ('torch.txt', 'onedl.txt'),
    'openmmlab': ('torch-openmmlab.txt', 'mminstall.txt'),
}


def main(stack: str) -> None:
    lines = []
    for name in ('build.txt', *STACKS[stack], 'runtime.txt', 'demo.txt', 'docs.txt', 'tests.txt'):
        lines += (REQUIREMENTS / name).read_text().splitlines()
    # demo.txt and docs.txt are listed above
    wanted = [x for x in lines if 'mmcv' not in x and not x.startswith('-r')]
    with tempfile.NamedTemporaryFile('w', suffix='.txt') as file:
        file.write('\n'.join([*wanted, 'pip', 'uv']))
        file.flush()
        done = subprocess.run(
            [
                sys.executable, '-m', 'pip', 'install', '--dry-run', '--ignore-installed',
                '--quiet', '--report', '-', '-r', file.name,
            ],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    packages = [item['metadata'] for item in json.loads(done.stdout)['install']]
    pins = sorted(f'{package["name"].lower()}=={package["version"]}' for package in packages)
    version = '.'.join(map(str, sys.version_info[:2]))
    path = REQUIREMENTS / 'constraints' / f'{stack}-py{version}.txt'
    path.write_text('\n'.join(pins) + '\n')
    print(f'{path}: {len(pins)} packages')


if __name__ == '__main__':
    main(*sys.argv[1:])
