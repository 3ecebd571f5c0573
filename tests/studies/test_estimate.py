from dataclasses import replace

import pytest

from mmcrosscl.studies import create_study
from mmcrosscl.studies import estimate as module
from mmcrosscl.studies.estimate import START, estimate, expected_seconds, write_estimate
from mmcrosscl.studies.study import write_study
from tests.studies.data import write_data


@pytest.mark.slow(10)
def test_each_arm_is_timed_with_its_own_settings(tmp_path, monkeypatch):
    (tmp_path / 'fast.py').write_text('model = dict(momentum=0.5)')
    arms = ['random', 'global', f'crosscl@{tmp_path}/fast.py']
    study, files = create_study(**{**write_data(tmp_path), 'arms': arms})
    write_study(study, files, tmp_path)

    def seconds(cfg, pool):
        return cfg.model.momentum * len(cfg.model.head.terms)

    monkeypatch.setattr(module, 'seconds_per_iteration', seconds)
    monkeypatch.setattr(module, '_detector_step', lambda cfg: (3.0, 0.5, dict(val=6, test=4)))
    found = estimate(tmp_path, study)
    assert found.pop('pretrain global') == START + 2 * 0.001
    assert found.pop('pretrain crosscl@fast') == START + 2 * 0.5 * 5
    # one rate: the random start has two lengths, and two other arms have one
    search = START + (1 + 2 + 1 + 1) / 4 * 2 * 3 + 6 * 0.5
    assert found.pop('search') == search
    # of two seeds, only the second one is fine-tuned again
    assert found == dict(final=START + search / 2 + 4 * 0.5)


def test_the_expected_time_contains_the_arms_of_an_extension(tmp_path, monkeypatch):
    study, _ = create_study(**{**write_data(tmp_path), 'arms': ['random']})
    timed = []

    def time_steps(work_dir, study):
        timed.append(study.arms)
        return {job.group: 10.0 for job in study.plan.jobs()}

    monkeypatch.setattr(module, 'estimate', time_steps)
    extended = replace(study, arms=('random', 'crosscl'))
    for each in (study, study, extended, extended):
        write_estimate(tmp_path, each)
    assert timed == [study.arms, extended.arms]
    assert expected_seconds(tmp_path, extended) == 10 * len(list(extended.plan.jobs()))
