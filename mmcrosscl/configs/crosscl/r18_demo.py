# A call, because MMEngine replaces import statements and keeps imported names in the config.
globals().update(
    __import__('mmcrosscl.configs', fromlist=['settings']).settings('crosscl/r18_demo.py')
)
