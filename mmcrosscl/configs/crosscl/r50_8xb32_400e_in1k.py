# A call, because MMEngine replaces import statements and keeps imported names in the config.
globals().update(
    __import__('mmcrosscl.configs', fromlist=['settings']).settings(
        'crosscl/r50_8xb32-400e_in1k.py'
    )
)
