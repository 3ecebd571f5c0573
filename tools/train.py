"""Run `mmcrosscl train`; tools/train.py is the name that OpenMMLab projects use."""

import sys

from mmcrosscl.cli import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))
