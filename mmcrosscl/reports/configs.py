"""Settings of a run as flat names and values, and their differences from the published recipe."""

from collections.abc import Mapping
from pathlib import Path

from mmcrosscl.checkpoints import UNKNOWN, read_literals

PUBLISHED = 'mmcrosscl::crosscl/r50_8xb32.py'
# settings of the place of a run, and not of its training
PLACE = ('work_dir', 'launcher', 'resume')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def find_config(work_dir: Path) -> Path | None:
    """Return the newest complete config that MMEngine wrote to a work dir, or None."""
    found = sorted(work_dir.glob('*.py'), key=lambda path: path.stat().st_mtime, reverse=True)
    # the copies of the visualizer, in folders whose names are timestamps
    found += sorted(work_dir.glob('*/vis_data/config.py'), reverse=True)
    return next(filter(read_config_file, found), None)


def read_config_file(path: Path) -> dict[str, object]:
    """Return the settings in a config file as flat names and values, without running it.

    Args:
        path (Path): A config that MMEngine wrote. The settings of a config that inherits from
            another file are unknown.

    Returns:
        dict[str, object]: See :func:`flatten`; empty if the file is not such a config.
    """
    settings = read_literals(path.read_text(errors='replace'))
    return {} if '_base_' in settings else flatten(settings)


def flatten(config: Mapping) -> dict[str, object]:
    """Return the settings of a config with dotted names.

    The items of a list of dicts have the name of the list and their number. Empty dicts, which set
    nothing, are omitted. Tuples become lists, because MMEngine does not always distinguish them.

    Args:
        config (Mapping): Settings by name.
    """
    flat: dict[str, object] = {}

    def add(name: str, value: object) -> None:
        if isinstance(value, list | tuple) and any(isinstance(x, Mapping) for x in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            for key, item in value.items():
                add(f'{name}.{key}' if name else str(key), item)
        else:
            flat[name] = _plain(value)

    add('', config)
    return flat


def settings_of_training(flat: Mapping[str, object]) -> dict[str, object]:
    """Return the settings that influence the training: without places and repetitions.

    Args:
        flat (Mapping[str, object]): See :func:`flatten`.
    """
    # configs define a pipeline under a name of its own before the dataset refers to it
    copies = {
        name for name in flat
        for first, point, rest in [name.partition('.')]
        if first.endswith('_pipeline')
        and any(f'{loader}.dataset.pipeline{point}{rest}' in flat for loader in LOADERS)
    }  # fmt: skip
    return {name: value for name, value in flat.items() if name not in PLACE and name not in copies}


def differing(*configs: Mapping[str, object]) -> list[str]:
    """Return the sorted names of the settings that are not equal in all flat configs."""
    names = sorted(set().union(*configs))
    first, *others = configs
    return [
        name for name in names
        if any(_differ(first.get(name, UNKNOWN), other.get(name, UNKNOWN)) for other in others)
    ]  # fmt: skip


def is_pretraining(flat: Mapping[str, object]) -> bool:
    """Return whether a flat config is one of CrossCL."""
    return str(flat.get('model.type')).endswith('CrossCL')


def _differ(first: object, second: object) -> bool:
    # `True == 1`, but it is another setting
    return first != second or isinstance(first, bool) != isinstance(second, bool)


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
