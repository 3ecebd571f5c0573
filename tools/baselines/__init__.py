"""The plain forms that tools/benchmark.py and the tests compare mmcrosscl with."""
