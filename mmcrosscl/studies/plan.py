"""The jobs of a study, and the order in which they can run."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from .arms import Arm

PRETRAIN, SEARCH, FINAL = 'pretrain', 'search', 'final'


@dataclass(frozen=True)
class Job:
    """A unit of work.

    Attributes:
        kind: 'pretrain', 'search' (fine-tuning at one learning rate, evaluated on the validation
            part) or 'final' (fine-tuning at the chosen rate, evaluated on the test set).
        arm: Name of the arm.
        seed: Seed of the pre-training, of the subset and of the fine-tuning.
        labels: Number of labeled images; None for pre-training.
        rate: Learning rate; None if the kind is not 'search'.
        length: Multiple of the fine-tuning iterations.
    """

    kind: str
    arm: str
    seed: int
    labels: int | None = None
    rate: float | None = None
    length: int = 1

    @property
    def id(self) -> str:
        """Name of the job's folder."""
        parts = [self.kind, self.arm, *([] if self.labels is None else [str(self.labels)])]
        parts += [] if self.rate is None else [f'lr{self.rate:g}']
        parts += [f'x{self.length}'] if self.length > 1 else []
        return '-'.join([*parts, f'seed{self.seed}'])

    @property
    def group(self) -> str:
        """Name that this job shares with the jobs that take about as long."""
        return f'{self.kind} {self.arm}' if self.kind == PRETRAIN else self.kind


@dataclass(frozen=True)
class Plan:
    """All jobs of a study.

    Attributes:
        arms: The arms.
        labels: Numbers of labeled images.
        seeds: Number of seeds.
        rates: Learning rates of the search, the same for all arms.
        lengths: Multiples of the fine-tuning iterations that the search tries for the random start.
            Other arms use the first.
    """

    arms: tuple[Arm, ...]
    labels: tuple[int, ...]
    seeds: int
    rates: tuple[float, ...]
    lengths: tuple[int, ...] = (1, 2)

    def jobs(self) -> Iterator[Job]:
        """Yield all jobs, each after the jobs that it needs, and those of the first seed first."""
        for seed in range(self.seeds):
            for arm in self.arms:
                if arm.terms is not None:
                    yield Job(PRETRAIN, arm.name, seed)
            for labels in self.labels:
                for arm in self.arms:
                    if seed == 0:
                        yield from self.searches(arm, labels)
                    yield Job(FINAL, arm.name, seed, labels)

    def searches(self, arm: Arm, labels: int) -> list[Job]:
        """Return the jobs that choose the learning rate of an arm."""
        lengths = self.lengths if arm.is_random else self.lengths[:1]
        return [
            Job(SEARCH, arm.name, 0, labels, rate, length)
            for length in lengths
            for rate in self.rates
        ]

    def arm(self, name: str) -> Arm:
        """Return the arm with a name."""
        return next(arm for arm in self.arms if arm.name == name)

    def needs(self, job: Job) -> list[Job]:
        """Return the jobs that must be done before a job."""
        needed = []
        arm = self.arm(job.arm)
        if job.kind != PRETRAIN and arm.terms is not None:
            needed.append(Job(PRETRAIN, arm.name, job.seed))
        if job.kind == FINAL and job.labels is not None:
            needed += self.searches(arm, job.labels)
        return needed

    def possible(self, done: Collection[str], failed: Collection[str] = ()) -> list[Job]:
        """Return the jobs that are not done and that need no failed job.

        Args:
            done (Collection[str]): Ids of the jobs that are done.
            failed (Collection[str]): Ids of the jobs that have failed. Defaults to none.
        """
        lost = set(failed) - set(done)
        jobs = []
        for job in self.jobs():
            if job.id in done:
                continue
            if job.id in lost or any(need.id in lost for need in self.needs(job)):
                lost.add(job.id)
            else:
                jobs.append(job)
        return jobs

    def ready(self, done: Collection[str], failed: Collection[str] = ()) -> list[Job]:
        """Return the possible jobs whose needs are done."""
        return [
            job
            for job in self.possible(done, failed)
            if all(need.id in done for need in self.needs(job))
        ]

    def chosen(self, job: Job, results: Mapping[str, Mapping]) -> Job | None:
        """Return the search whose learning rate and length a final job uses.

        It has the highest AP on the validation part. Of equal APs, such as those of detectors that
        found nothing, the shortest training and then the lowest rate is chosen.

        Args:
            job (Job): A job of the kind 'final'.
            results (Mapping[str, Mapping]): Results by id of the job.

        Returns:
            Job | None: None if a search of the arm has no result.
        """
        # only pre-trainings have no number of labels
        searches = self.searches(self.arm(job.arm), cast(int, job.labels))
        if any(search.id not in results for search in searches):
            return None
        return max(searches, key=lambda s: (results[s.id]['ap'], -s.length, -cast(float, s.rate)))
