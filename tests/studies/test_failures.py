import pytest

from mmcrosscl.errors import InputError, NonFiniteError, RunError
from mmcrosscl.studies.failures import Failures

CRASH = RunError('killed')


def test_a_job_that_fails_on_two_workers_is_lost():
    failures = Failures(range(3))
    failures.add('a', 0, CRASH)
    assert (
        failures.lost() == set() and failures.refused(0) == {'a'} and failures.refused(1) == set()
    )
    failures.add('a', 1, CRASH)
    assert failures.lost() == {'a'} == failures.refused(2)
    # no worker is to blame
    for worker in range(3):
        failures.add(f'b{worker}', worker, CRASH)
        assert not failures.stops(worker)


@pytest.mark.parametrize('error', [InputError('bad config'), NonFiniteError('NaN')])
def test_a_job_that_would_fail_again_is_lost_at_once(error):
    failures = Failures(range(2))
    failures.add('a', 0, error)
    failures.add('b', 0, error)
    assert failures.lost() == {'a', 'b'} and not failures.stops(0)


def test_a_worker_stops_after_two_jobs_that_failed_on_it_alone():
    failures = Failures(range(2))
    failures.add('a', 0, CRASH)
    failures.succeed(0)
    failures.add('b', 0, CRASH)
    assert not failures.stops(0)
    failures.add('c', 0, CRASH)
    assert failures.stops(0)
    # the last worker does not stop, and tries each job once
    failures.add('d', 1, CRASH)
    failures.add('e', 1, CRASH)
    assert not failures.stops(1)
    assert failures.lost() == {'d', 'e'} and failures.refused(1) == {'d', 'e'}


def test_a_job_that_failed_on_the_last_worker_is_lost():
    failures = Failures(range(2))
    failures.add('a', 0, CRASH)
    failures.leave(1)
    assert failures.lost() == {'a'}
