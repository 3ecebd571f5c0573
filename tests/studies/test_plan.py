import pytest

from mmcrosscl.studies import Arm, Job, Plan
from mmcrosscl.studies.plan import FINAL, PRETRAIN, SEARCH

PLAN = Plan(
    arms=(Arm(), Arm('crosscl'), Arm(weights='own')),
    labels=(50, 200),
    seeds=3,
    rates=(0.1, 0.2),
)


def test_every_arm_is_tested_once_per_seed_and_number_of_labels():
    jobs = list(PLAN.jobs())
    assert len({job.id for job in jobs}) == len(jobs)
    final = {(job.arm, job.labels, job.seed) for job in jobs if job.kind == FINAL}
    assert len(final) == 3 * 2 * 3
    pretrained = [(job.arm, job.seed) for job in jobs if job.kind == PRETRAIN]
    assert pretrained == [('crosscl', 0), ('crosscl', 1), ('crosscl', 2)]


def test_the_rates_are_searched_with_the_first_seed_and_are_the_same_for_all_arms():
    searches = [job for job in PLAN.jobs() if job.kind == SEARCH]
    assert {job.seed for job in searches} == {0}
    for arm in PLAN.arms:
        for labels in PLAN.labels:
            rates = {j.rate for j in searches if j.arm == arm.name and j.labels == labels}
            assert rates == {0.1, 0.2}
    # only the random start may train longer
    assert {job.length for job in searches if job.arm == 'random'} == {1, 2}
    assert {job.length for job in searches if job.arm != 'random'} == {1}


def test_jobs_become_ready_when_their_needs_are_done():
    done: set[str] = set()
    order = []
    while ready := PLAN.ready(done):
        for need in PLAN.needs(ready[0]):
            assert need.id in done
        order.append(ready[0])
        done.add(ready[0].id)
    assert len(order) == len(list(PLAN.jobs()))
    first = [job.id for job in PLAN.ready(set())]
    assert 'pretrain-crosscl-seed0' in first
    assert not any(name.startswith(('final', 'search-crosscl')) for name in first)


def test_jobs_that_need_a_failed_one_are_not_possible():
    jobs = list(PLAN.jobs())
    failed = {'pretrain-crosscl-seed1', 'search-weights-50-lr0.1-seed0'}
    lost = {job.id for job in jobs} - {job.id for job in PLAN.possible(set(), failed)}
    assert lost == failed | {
        *(f'final-crosscl-{labels}-seed1' for labels in (50, 200)),
        *(f'final-weights-50-seed{seed}' for seed in range(3)),
    }
    assert not lost & {job.id for job in PLAN.ready(set(), failed)}
    # another process had success
    assert PLAN.possible(failed, failed) == [job for job in jobs if job.id not in failed]


def test_the_best_rate_has_the_highest_score_and_the_lowest_of_equals_wins():
    searches = PLAN.searches(PLAN.arms[0], 50)
    final = Job(FINAL, 'random', 2, 50)
    results = {job.id: dict(ap=ap) for job, ap in zip(searches, (1.0, 3.0, 2.0, 2.5))}
    assert PLAN.chosen(final, results) == Job(SEARCH, 'random', 0, 50, 0.2)
    assert PLAN.chosen(final, dict.fromkeys(results, dict(ap=0.0))) == searches[0]
    del results[searches[-1].id]
    assert PLAN.chosen(final, results) is None


def test_names_of_folders_are_unique_for_similar_arms():
    with pytest.raises(StopIteration):
        PLAN.arm('absent')
    assert Job(SEARCH, 'a', 0, 50, 1e-4, 2).id == 'search-a-50-lr0.0001-x2-seed0'
