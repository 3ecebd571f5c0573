"""A run that is killed repeatedly, also while it writes checkpoints, can always resume."""

import json
import os
import random
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mmcrosscl.checkpoints import verify_checksums
from mmcrosscl.engine import build_runner
from mmcrosscl.errors import EXIT_PREEMPTED, InputError
from tests.engine import runs
from tests.engine.toys import toy, train

KILLS, INTERVAL = 30, 2


def long_run(folder: Path, stop_at: int | None = None, interval: int = INTERVAL):
    """Return the config of a run that does not end before it is killed, on any machine."""
    cfg = runs.tiny_run(folder, by_epoch=False, length=100_000)
    # checkpoints of over ten megabytes, so that writing them takes much of the time
    cfg.model.queue.length = 4 * 10**5
    # keep the smallest possible number of checkpoints
    cfg.default_hooks.checkpoint.update(interval=interval, max_keep_ckpts=1)
    cfg.custom_hooks = [dict(type='Diary', folder=str(folder), stop_at=stop_at)]
    cfg.resume = True
    return cfg


def saved(folder: Path) -> list[int]:
    names = [re.fullmatch(r'iter_(\d+)\.pth', path.name) for path in folder.glob('work/*')]
    return sorted(int(name[1]) for name in names if name)


def begun(folder: Path) -> list[int]:
    """Return the iterations, counted from 0, that have started. All but the last are complete."""
    try:
        *lines, _ = Path(folder, 'diary0.jsonl').read_text().split('\n')
    except FileNotFoundError:
        return []
    return [json.loads(line)['iter'] for line in lines]


def reached(folder: Path, count: int) -> bool:
    return len(begun(folder)) >= count


def writing(folder: Path, since: float) -> bool:
    for path in folder.glob('work/.*.partial'):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime > since:
                return True
    return False


def wait(process, condition, *args) -> None:
    end = time.monotonic() + 60
    while not condition(*args):
        assert process.is_alive(), 'the process ended by itself'
        assert time.monotonic() < end, 'the process makes no progress'
        time.sleep(0.001)


@pytest.mark.slow(50)
def test_thirty_kills_at_random_moments(tmp_path):
    rng = random.Random(0)
    in_writing = done = 0
    for number in range(KILLS):
        (tmp_path / 'diary0.jsonl').unlink(missing_ok=True)
        start = time.time()
        (process,) = runs.start(long_run(tmp_path))
        wait(process, reached, tmp_path, rng.randint(1, 8))
        if number % 3 == 0:
            wait(process, writing, tmp_path, start)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        iterations = begun(tmp_path)
        in_writing += writing(tmp_path, start)
        # the run resumed at most one interval before the point at which it was killed
        assert iterations[0] >= done - INTERVAL
        done = iterations[-1]
        assert done - max(saved(tmp_path), default=0) < INTERVAL + 1
        for iteration in saved(tmp_path):
            verify_checksums(tmp_path / f'work/iter_{iteration}.pth')
    print(f'{KILLS} kills, {in_writing} of them while a checkpoint was written, {done} iterations')
    assert in_writing > 0 and done > 10

    # The killed run saves a checkpoint at this iteration in any case. The uninterrupted run saves
    # one only because of SIGTERM.
    end = done + done % INTERVAL + INTERVAL
    assert runs.finish(runs.start(long_run(tmp_path, stop_at=end - 1))) == [EXIT_PREEMPTED]
    assert saved(tmp_path)[-1] == end and not any(tmp_path.glob('work/.*.partial'))
    undisturbed = tmp_path / 'uninterrupted'
    undisturbed.mkdir()
    (undisturbed / 'photos').symlink_to(tmp_path / 'photos')
    cfg = long_run(undisturbed, stop_at=end - 1, interval=10**6)
    assert runs.finish(runs.start(cfg)) == [EXIT_PREEMPTED]
    runs.assert_same_state(*[path / f'work/iter_{end}.pth' for path in (tmp_path, undisturbed)])


def one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    'cut off': lambda content: content[: len(content) // 2],
    'empty': lambda content: b'',
    'zeros': lambda content: bytes(len(content)),
    # a typical error of a failing disk
    'one bit': one_bit,
    'another file': lambda content: b'text',
}


@pytest.mark.slow
@pytest.mark.parametrize('name', DAMAGES)
def test_a_damaged_newest_checkpoint_is_detected_and_the_previous_one_is_used(tmp_path, name):
    cfg = runs.tiny_run(tmp_path, length=3)
    build_runner(cfg).train()
    newest = tmp_path / 'work/epoch_3.pth'
    newest.write_bytes(DAMAGES[name](newest.read_bytes()))
    cfg = runs.tiny_run(tmp_path, length=3)
    cfg.resume = True
    build_runner(cfg).train()
    log = runs.log_of(tmp_path)
    assert re.search(
        r'epoch_3.pth is not a complete checkpoint .*The next older checkpoint is tried', log
    )
    assert 'resumed epoch: 2, iter: 6' in log
    verify_checksums(newest)


def test_training_does_not_restart_from_scratch_if_all_checkpoints_are_damaged(tmp_path):
    cfg = runs.tiny_run(tmp_path, length=1)
    build_runner(cfg).train()
    (tmp_path / 'work/epoch_1.pth').write_bytes(b'')
    cfg = runs.tiny_run(tmp_path, length=1)
    cfg.resume = True
    with pytest.raises(InputError, match='none of the 1 checkpoints in .*work is intact; copy'):
        build_runner(cfg).train()


def test_resuming_in_an_empty_work_dir_starts_from_scratch(tmp_path):
    cfg = runs.tiny_run(tmp_path, length=1)
    cfg.resume = True
    build_runner(cfg).train()
    assert (tmp_path / 'work/epoch_1.pth').exists()


def test_old_checkpoints_are_deleted_after_the_new_one_is_saved(tmp_path, monkeypatch):
    """This also applies to the best checkpoints, which are saved after an evaluation."""
    existing = []
    replace = os.replace

    def spy(source, target):
        if Path(target).suffix == '.pth':
            existing.append(sorted(p.name for p in Path(target).parent.glob('*.pth')))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', spy)
    checkpoint = dict(max_keep_ckpts=1, save_best='score', rule='greater')
    train(toy(tmp_path, scores=[0.1, 0.2, 0.3], default_hooks=dict(checkpoint=checkpoint)))
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == [
        'best_score_epoch_3.pth', 'epoch_3.pth',
    ]  # fmt: skip
    # after each epoch: the latest checkpoint, the best one, and the latest one again
    assert len(existing) == 9
    for before in existing[1:]:
        assert before, 'no checkpoint existed while a new one was written'
