"""A run that is killed again and again, while it writes checkpoints too, loses nothing."""

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

KILLS, INTERVAL = 30, 2


def long_run(folder: Path, stop_at: int | None = None, interval: int = INTERVAL):
    """Longer than any machine gets, so that the moments of the kills need not suit its speed."""
    cfg = runs.tiny_run(folder, by_epoch=False, length=100_000)
    # over ten megabytes: a good part of the time is spent on writing them
    cfg.model.queue_len = 4 * 10**5
    # the least that can be kept
    cfg.default_hooks.checkpoint.update(interval=interval, max_keep_ckpts=1)
    cfg.custom_hooks = [dict(type='Diary', folder=str(folder), stop_at=stop_at)]
    cfg.resume = True
    return cfg


def saved(folder: Path) -> list[int]:
    names = [re.fullmatch(r'iter_(\d+)\.pth', path.name) for path in folder.glob('work/*')]
    return sorted(int(name[1]) for name in names if name)


def begun(folder: Path) -> list[int]:
    """The numbers, from 0, of the iterations since the start; all but the last are complete."""
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
        assert process.is_alive(), 'it ended by itself'
        assert time.monotonic() < end, 'it does not go on'
        time.sleep(0.001)


@pytest.mark.slow(50)
def test_thirty_kills_at_random_moments(tmp_path):
    draw = random.Random(0)
    in_writing = done = 0
    for number in range(KILLS):
        (tmp_path / 'diary0.jsonl').unlink(missing_ok=True)
        start = time.time()
        (process,) = runs.start(long_run(tmp_path))
        wait(process, reached, tmp_path, draw.randint(1, 8))
        if number % 3 == 0:
            wait(process, writing, tmp_path, start)
        time.sleep(draw.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        iterations = begun(tmp_path)
        in_writing += writing(tmp_path, start)
        # from where the one before was, at most an interval
        assert iterations[0] >= done - INTERVAL
        done = iterations[-1]
        assert done - max(saved(tmp_path), default=0) < INTERVAL + 1
        for iteration in saved(tmp_path):
            verify_checksums(tmp_path / f'work/iter_{iteration}.pth')
    print(f'{KILLS} kills, {in_writing} of them in writing, {done} iterations done')
    assert in_writing > 0 and done > 10

    # a save is due there anyway, whose place the one on SIGTERM takes in the whole run
    end = done + done % INTERVAL + INTERVAL
    assert runs.finish(runs.start(long_run(tmp_path, stop_at=end - 1))) == [EXIT_PREEMPTED]
    assert saved(tmp_path)[-1] == end and not any(tmp_path.glob('work/.*.partial'))
    whole = tmp_path / 'whole'
    whole.mkdir()
    (whole / 'photos').symlink_to(tmp_path / 'photos')
    uninterrupted = long_run(whole, stop_at=end - 1, interval=10**6)
    assert runs.finish(runs.start(uninterrupted)) == [EXIT_PREEMPTED]
    runs.assert_same_state(*[folder / f'work/iter_{end}.pth' for folder in (tmp_path, whole)])


def one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    'cut off': lambda content: content[: len(content) // 2],
    'empty': lambda content: b'',
    'zeros': lambda content: bytes(len(content)),
    # what a disk does that fails
    'one bit': one_bit,
    'another file': lambda content: b'text',
}


@pytest.mark.slow
@pytest.mark.parametrize('name', DAMAGES)
def test_a_damaged_newest_file_is_noticed_and_the_one_before_it_used(tmp_path, name):
    cfg = runs.tiny_run(tmp_path, length=3)
    build_runner(cfg).train()
    newest = tmp_path / 'work/epoch_3.pth'
    newest.write_bytes(DAMAGES[name](newest.read_bytes()))
    cfg = runs.tiny_run(tmp_path, length=3)
    cfg.resume = True
    build_runner(cfg).train()
    log = runs.log_of(tmp_path)
    assert re.search(
        r'epoch_3.pth is not a complete checkpoint .*The checkpoint before it is used', log
    )
    assert 'resumed epoch: 2, iter: 6' in log
    verify_checksums(newest)


def test_no_whole_checkpoint_is_no_reason_to_begin_anew(tmp_path):
    cfg = runs.tiny_run(tmp_path, length=1)
    build_runner(cfg).train()
    (tmp_path / 'work/epoch_1.pth').write_bytes(b'')
    cfg = runs.tiny_run(tmp_path, length=1)
    cfg.resume = True
    with pytest.raises(InputError, match='none of the 1 checkpoints in .*work is intact; copy'):
        build_runner(cfg).train()


def test_resuming_an_empty_work_dir_begins(tmp_path):
    cfg = runs.tiny_run(tmp_path, length=1)
    cfg.resume = True
    build_runner(cfg).train()
    assert (tmp_path / 'work/epoch_1.pth').exists()


def test_old_checkpoints_go_after_the_new_one_is_in_place(tmp_path, monkeypatch):
    """Also the best ones, which an evaluation makes."""
    from mmcrosscl.engine import SafeCheckpointHook

    there = []
    replace = os.replace

    def spy(source, target):
        if Path(target).suffix == '.pth':
            there.append(sorted(p.name for p in Path(target).parent.glob('*.pth')))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', spy)
    cfg = runs.tiny_run(tmp_path, length=3)
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=1, save_best='score', rule='greater')
    runner = build_runner(cfg)
    hook = next(h for h in runner.hooks if isinstance(h, SafeCheckpointHook))
    after_epoch = hook.after_train_epoch

    def evaluated(runner):
        after_epoch(runner)
        hook.after_val_epoch(runner, dict(score=runner.epoch))

    monkeypatch.setattr(hook, 'after_train_epoch', evaluated)
    runner.train()
    assert sorted(p.name for p in tmp_path.glob('work/*.pth')) == [
        'best_score_epoch_2.pth', 'epoch_2.pth',
    ]  # fmt: skip
    for before in there[1:]:
        assert before, 'nothing was there while a file was written'
