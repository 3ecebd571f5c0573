"""A long run does not leak memory, files, threads or processes. `make soak` runs it."""

import json

import numpy as np
import pytest

from tests.engine import runs

ITERATIONS, EVERY = 2000, 20


def slope(measured: list[dict], name: str) -> float:
    """Return the growth per 1,000 iterations: a least-squares fit to the last three quarters."""
    later = measured[len(measured) // 4 :]
    x = [entry['iteration'] / 1000 for entry in later]
    return float(np.polyfit(x, [entry[name] for entry in later], 1)[0])


def soak(folder, iterations):
    cfg = runs.tiny_run(folder, by_epoch=False, length=iterations, workers=2)
    cfg.custom_hooks = [
        dict(type='mmcrosscl.MultiScaleHook', scales=[32, 64]),
        dict(type='Gauge', path=str(folder / 'gauge.jsonl'), every=EVERY),
    ]
    cfg.default_hooks.checkpoint.interval = 100
    cfg.default_hooks.logger.interval = 10
    assert runs.finish(runs.start(cfg), timeout=1800) == [0]
    return [json.loads(line) for line in (folder / 'gauge.jsonl').read_text().splitlines()]


@pytest.mark.soak
def test_two_thousand_iterations_do_not_leak(tmp_path):
    measured = soak(tmp_path, ITERATIONS)
    assert len(measured) == ITERATIONS // EVERY
    for name in ('megabytes', 'files', 'threads', 'processes'):
        first, last = measured[len(measured) // 4][name], measured[-1][name]
        print(
            f'{name}: {first:.5g} after {ITERATIONS // 4} iterations, {last:.5g} after '
            f'{ITERATIONS}; {slope(measured, name):+.3g} per 1,000 iterations'
        )
    assert slope(measured, 'megabytes') < 20
    for name in ('files', 'threads', 'processes'):
        assert abs(slope(measured, name)) < 0.5


def test_the_slope_detects_growth():
    growing = [dict(iteration=i, megabytes=900 + i / 40) for i in range(0, 2000, 20)]
    assert slope(growing, 'megabytes') == pytest.approx(25)
