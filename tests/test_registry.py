"""Registries of mmcrosscl in MMEngine's registry tree."""

import importlib

import mmengine.registry
import pytest
from mmengine.registry import Registry

from mmcrosscl import registry

NAMES = [
    name
    for name, value in vars(registry).items()
    if isinstance(value, Registry) and value.scope == 'mmcrosscl'
]
ROOTS = [value for value in vars(mmengine.registry).values() if isinstance(value, Registry)]


class Probe:
    """Component that the test registers."""


def test_metrics_and_visualizers_have_registries():
    assert {'METRICS', 'VISUALIZERS'} <= set(NAMES)
    assert registry.METRICS.get('mmengine.DumpResults').__name__ == 'DumpResults'
    assert registry.VISUALIZERS.get('mmengine.Visualizer').__name__ == 'Visualizer'


@pytest.mark.parametrize('name', NAMES)
def test_a_component_resolves_by_its_scope_from_any_project(name, monkeypatch):
    child, root = getattr(registry, name), getattr(mmengine.registry, name)
    assert child.parent is root
    monkeypatch.setitem(child.module_dict, 'Probe', Probe)
    for project in ('mmengine', 'mmpretrain', 'mmdet', 'mmcrosscl'):
        start = getattr(importlib.import_module(f'{project}.registry'), name, root)
        assert start.get('mmcrosscl.Probe') is Probe


@pytest.mark.parametrize('root', ROOTS, ids=lambda root: root.name)
def test_every_registry_can_be_searched_from_the_scope(root):
    # MMEngine warns if a registry has no child of this scope
    with root.switch_scope_and_registry('mmcrosscl') as found:
        assert found.scope == 'mmcrosscl' and found.parent is root
