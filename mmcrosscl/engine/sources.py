"""The checkpoints in the settings of a run that it starts from."""

from collections.abc import Mapping

from mmcrosscl.detectors import initial_checkpoints


def pretrained_setting(cfg: Mapping) -> str | None:
    """Return the checkpoint that PretrainedHook loads, or None.

    Many configs of MMDetection have a variable with the name of the setting for the ``init_cfg`` of
    the backbone. It is not the setting.
    """
    path = cfg.get('pretrained')
    return None if path in initial_checkpoints(cfg.get('model')) else path


def load_from_setting(cfg: Mapping) -> str | None:
    """Return the checkpoint in ``load_from``, also of a run with ``--resume`` that begins."""
    return cfg.get('new_run_load_from') or cfg.get('load_from')


def initial_sources(cfg: Mapping) -> list[str]:
    """Return the checkpoints in the settings that a new run starts from."""
    return list(dict.fromkeys(filter(None, (pretrained_setting(cfg), load_from_setting(cfg)))))
