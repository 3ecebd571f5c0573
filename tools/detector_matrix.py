#!/usr/bin/env python
"""Pre-train the backbone and neck of every detection config of MMDetection for one step.

For each config: its backbone and neck are built; one step of CrossCL has finite losses, and a
finite gradient for each weight that a loss term reaches; the weights load back into the backbone
and neck of the config, completely. Configs with the same backbone and neck are run once.

Results are appended to a file, and an interrupted run continues there. `--write` writes the table
of docs/detectors.md.
"""

import argparse
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import mmdet
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import nn

from mmcrosscl.checkpoints import convert_for_model, model_input_format
from mmcrosscl.datasets import collate_views
from mmcrosscl.detectors import (
    Detector,
    Features,
    Schedule,
    config_text,
    dry_run,
    find_detector,
    inner_detector,
)
from mmcrosscl.engine import load_config, read_config
from mmcrosscl.errors import InputError
from mmcrosscl.progress import track

CONFIGS = Path(mmdet.__path__[0], '.mim/configs')
DOCS = Path(__file__).parents[1] / 'docs/detectors.md'
STEPS = ('builds', 'trains', 'loads')
IMAGES = 2


def detection_configs() -> Iterator[str]:
    """Yield the configs below ``CONFIGS`` that define the model of a detector."""
    for path in sorted(CONFIGS.rglob('*.py')):
        name = str(path.relative_to(CONFIGS))
        if name.startswith('_base_') or '/_base_/' in name:
            continue
        try:
            cfg = read(name)
        except InputError:
            # inherits from a config that MMDetection does not install
            continue
        model = cfg.get('model')
        if model is not None and not is_other_task(model):
            yield name


@cache
def read(name: str) -> Config:
    """Read a config, given by its path relative to ``CONFIGS``, which must not be changed."""
    return read_config(str(CONFIGS / name))


def is_other_task(model: dict) -> bool:
    """Return whether a model tracks, re-identifies or classifies."""
    kind = model.get('type', '')
    tracking = 'tracker' in model or 'track_head' in model or 'reid' in model
    return tracking or kind in ('BaseReID', 'ImageClassifier') or kind.endswith('Video')


def check(name: str, shrink: Callable[[ConfigDict], None] | None = None) -> dict:
    """Build, train and load back the backbone and the neck of a config.

    Args:
        name (str): Path of the config, relative to ``CONFIGS``.
        shrink (Callable, optional): Changes the model of the config in place.

    Returns:
        dict: Booleans for ``STEPS``, ``levels``, ``reached`` (share of the parameters) and, for a
        config that fails, ``reason``.
    """
    cfg = read_config(str(CONFIGS / name))
    if shrink is not None:
        shrink(cfg.model)
    result = dict.fromkeys(STEPS, False)
    try:
        detector = find_detector(cfg, name, keep_weights=False)
        features = dry_run(detector)
        result |= dict(
            builds=True,
            levels=', '.join(level.upper() for level in features.levels),
            reached=features.reached / features.parameters,
        )
        model = train_one_step(detector, features)
        result['trains'] = True
        load_back(model, cfg, detector)
        result['loads'] = True
    # the code of a component may raise any exception
    except Exception as error:
        sentence = str(error) if isinstance(error, InputError) else repr(error)
        result['reason'] = ' '.join(sentence.split())[:300]
    return result


def train_one_step(detector: Detector, features: Features) -> nn.Module:
    """Return a pre-training model after a step on random images."""
    with tempfile.TemporaryDirectory() as folder:
        generator = np.random.default_rng(0)
        for index in range(IMAGES):
            image = generator.integers(0, 256, (160, 160, 3), dtype=np.uint8)
            cv2.imwrite(f'{folder}/{index}.png', image)
        text = config_text(detector, features, folder, IMAGES, Schedule(1, IMAGES, 0))
        path = Path(folder, 'config.py')
        path.write_text(text)
        cfg = load_config(path, work_dir=folder)
        with DefaultScope.overwrite_default_scope(detector.scope):
            torch.manual_seed(0)
            dataset = DATASETS.build(cfg.train_dataloader.dataset)
            model = MODELS.build(cfg.model).train()
            model.init_weights()
            batch = collate_views([dataset[index] for index in range(IMAGES)])
    losses = model(**model.data_preprocessor(batch), mode='loss')
    wrong = [key for key, value in losses.items() if not torch.isfinite(value).all()]
    if wrong:
        raise InputError(f'{detector.name}: {", ".join(wrong)} is not finite')
    model.parse_losses(losses)[0].backward()
    unreached = {name.replace('neck.', 'neck.detector.', 1) for name in features.unreached}
    wrong = [
        name
        for name, x in model.named_parameters()
        if not name.startswith('key_encoder.')
        and name not in unreached
        # the neck of a detector without a neck is not in `unreached`
        and not (detector.neck is None and name.startswith('neck.detector.'))
        and (x.grad is None or not torch.isfinite(x.grad).all())
    ]
    if wrong:
        raise InputError(f'{detector.name}: no finite gradient for {", ".join(wrong[:5])}')
    return model


def load_back(model: nn.Module, cfg: Config, detector: Detector) -> None:
    """Load the weights into the backbone and neck of the unchanged config."""
    settings = deepcopy(inner_detector(cfg.model).to_dict())
    target = nn.Module()
    with DefaultScope.overwrite_default_scope(detector.scope):
        for part in ('data_preprocessor', 'backbone', 'neck'):
            if settings.get(part) is not None:
                if isinstance(settings[part], dict):
                    settings[part].pop('pretrained', None)
                setattr(target, part, MODELS.build(settings[part]))
    checkpoint = dict(
        state_dict=model.state_dict(),
        meta=dict(input_format=model_input_format(model).to_dict()),
    )
    conversion = convert_for_model(checkpoint, target)
    missing, unexpected = target.load_state_dict(conversion.state_dict, strict=False)
    if missing or unexpected:
        raise InputError(
            f'{detector.name}: {len(missing)} missing and {len(unexpected)} unexpected weights: '
            f'{", ".join([*missing, *unexpected][:5])}'
        )


def combination(name: str) -> tuple[str, str]:
    """Return the types of backbone and neck."""
    model = inner_detector(read(name).model)
    neck = model.get('neck')
    necks = neck if isinstance(neck, list) else [neck] if neck else []
    kinds = ' + '.join(one['type'] for one in necks) or 'none'
    return (model.get('backbone') or {}).get('type', 'none'), kinds


def same_parts(name: str) -> str:
    """Return a key that is equal for configs with the same backbone, neck and normalization."""
    cfg = read(name)
    model = inner_detector(cfg.model)
    parts = [model.get(part) for part in ('backbone', 'neck', 'data_preprocessor')]
    return json.dumps([cfg.get('custom_imports'), *parts], default=str, sort_keys=True)


def run(names: list[str], results: Path, jobs: int) -> dict[str, dict]:
    """Check configs and return the result of each; those in the file ``results`` are not rerun."""
    done = {}
    if results.exists():
        done = {line['key']: line for line in map(json.loads, results.read_text().splitlines())}
    keys = {name: same_parts(name) for name in track(names, 'Reading configs')}
    first = {key: name for name, key in reversed(keys.items())}
    waiting = {key: name for key, name in first.items() if key not in done}
    results.parent.mkdir(parents=True, exist_ok=True)
    if not waiting:
        return {name: done[key] for name, key in keys.items()}
    # new processes now and then, so that no memory and no global state accumulates
    with get_context('spawn').Pool(jobs, _one_thread, maxtasksperchild=8) as pool:
        checked = pool.imap_unordered(_check_one, waiting.items())
        for key, result in track(checked, 'Checking', len(waiting)):
            done[key] = dict(result, key=key)
            with results.open('a') as file:
                file.write(json.dumps(done[key]) + '\n')
    return {name: done[key] for name, key in keys.items()}


def _check_one(item: tuple[str, str]) -> tuple[str, dict]:
    key, name = item
    return key, check(name)


def _one_thread() -> None:
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    # MMEngine logs the initialization of each weight
    logging.disable()


def table(results: dict[str, dict]) -> str:
    """Return the Markdown table by combination, and the reasons of the configs that fail."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in results:
        groups.setdefault(combination(name), []).append(name)
    passed = sum(all(result[step] for step in STEPS) for result in results.values())
    lines = [
        f'{passed} of {len(results)} configs ({100 * passed / len(results):.1f} %) of MMDetection '
        f'{mmdet.__version__} pass all three steps.',
        '',
        '| backbone | neck | configs | builds | trains | loads | levels | parameters reached |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for (backbone, neck), names in sorted(groups.items()):
        members = [results[name] for name in names]
        counts = [sum(member[step] for member in members) for step in STEPS]
        levels = dict.fromkeys(m['levels'] for m in members if 'levels' in m)
        reached = [100 * m['reached'] for m in members if 'reached' in m]
        share = ''
        if reached:
            low, high = f'{min(reached):.0f}', f'{max(reached):.0f}'
            share = f'{low} %' if low == high else f'{low} to {high} %'
        cells = [backbone, neck, len(names), *counts, '; '.join(levels), share]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    lines += ['', 'Configs that fail, and why:', '']
    reasons: dict[str, list[str]] = {}
    for name, result in results.items():
        if 'reason' in result:
            # without the name of the config, which begins the message
            reason = result['reason'].split(': ', 1)[-1]
            reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        lines.append(f'- {", ".join(f"`{name}`" for name in names)}: {reason}')
    return '\n'.join(lines) + '\n'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--jobs', type=int, default=2, help='processes; default: 2')
    parser.add_argument(
        '--results',
        type=Path,
        default=Path('work_dirs/detector_matrix.jsonl'),
        help='file of results; default: %(default)s',
    )
    parser.add_argument('--write', action='store_true', help='write the table to docs/detectors.md')
    args = parser.parse_args()
    text = table(run(list(detection_configs()), args.results, args.jobs))
    print(text)
    if args.write:
        head = DOCS.read_text().partition('<!-- table -->')[0]
        DOCS.write_text(f'{head}<!-- table -->\n\n{text}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
