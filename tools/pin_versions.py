"""Write the newest versions of all packages of a stack to requirements/constraints/.

`make constraints` runs it with the Python of the environment, which needs uv. mmcv is not included:
a prebuilt wheel has another version than the source.
"""

import subprocess
import sys
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
    version = '.'.join(map(str, sys.version_info[:2]))
    # packages that need a later patch release of Python would not install on all of them
    done = subprocess.run(
        [
            sys.executable, '-m', 'uv', 'pip', 'compile', '--quiet', '--no-header',
            '--no-annotate', '--python-version', f'{version}.0', '-',
        ],
        input='\n'.join([*wanted, 'pip', 'uv']), check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    pins = sorted(done.stdout.lower().splitlines())
    path = REQUIREMENTS / 'constraints' / f'{stack}-py{version}.txt'
    path.write_text('\n'.join(pins) + '\n')
    print(f'{path}: {len(pins)} packages')


if __name__ == '__main__':
    main(*sys.argv[1:])
