"""`python -m mmcrosscl`: the same as the command `mmcrosscl`."""

import sys

from mmcrosscl.cli import main

sys.exit(main())
