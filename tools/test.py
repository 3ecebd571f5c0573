"""Run `mmcrosscl test`; tools/test.py is the name that OpenMMLab projects use."""

import sys

from mmcrosscl.cli import main

if __name__ == '__main__':
    sys.exit(main(['test', *sys.argv[1:]]))
