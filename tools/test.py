"""OpenMMLab's name for `mmcrosscl test`."""

import sys

from mmcrosscl.cli import main

if __name__ == '__main__':
    sys.exit(main(['test', *sys.argv[1:]]))
