# The name begins with two underscores, because MMEngine drops such names from a config.
from importlib import import_module as __import_module

globals().update(__import_module('mmcrosscl.configs').settings('crosscl/r18_demo.py'))
