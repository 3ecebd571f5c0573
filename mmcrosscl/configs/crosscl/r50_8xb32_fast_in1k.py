# MMEngine drops names that begin with two underscores from a config
from importlib import import_module as __import_module

globals().update(__import_module('mmcrosscl.configs').settings('crosscl/r50_8xb32-fast_in1k.py'))
