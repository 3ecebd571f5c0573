"""OpenMMLab's name for `mmcrosscl train`."""

import sys

from mmcrosscl.cli import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))
