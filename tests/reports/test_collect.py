import os
from datetime import datetime, timedelta

import pytest

from mmcrosscl.reports import collect
from mmcrosscl.reports.collect import STALE, images_per_iteration
from mmcrosscl.reports.commands import next_commands
from mmcrosscl.reports.similarity import read_similarity
from tests.reports.work_dirs import (
    CONFIG,
    train_entries,
    write_detector_run,
    write_run,
    write_session,
    write_similarity,
)

NOW = datetime(2026, 3, 1)
POINTS = 100


def age(work_dir, time):
    """Set the time of the last change of all files in a work dir."""
    for path in work_dir.rglob('*'):
        os.utime(path, (time.timestamp(), time.timestamp()))


def test_a_resumed_run(tmp_path):
    run = collect(write_run(tmp_path / 'run'), POINTS)
    assert run.notes == [] and not run.empty and run.pretraining
    assert run.config_file.name == 'run.py' and run.config['model.queue.length'] == 512
    first, second = run.sessions
    assert first.preempted_after == 42 and first.non_finite == (12,)
    assert second.resumed_after == 42 and second.started - first.started == timedelta(hours=2)
    assert (run.iteration, run.total) == (100, 100) and run.state(NOW) == 'finished'
    assert run.training_time < timedelta(minutes=10)
    assert [(c.path.name, c.size, c.newest) for c in run.checkpoints] == [
        ('iter_40.pth', 10**6, False), ('iter_100.pth', 10**6, True)
    ]  # fmt: skip
    assert run.broken_images == [('/photos/a.jpg', 'OSError: image file is truncated')]
    assert {curve.plot.section for curve in run.curves} == {'training', 'evaluation', 'throughput'}


def test_a_fine_tuning_run(tmp_path):
    run = collect(write_detector_run(tmp_path / 'run'), POINTS)
    assert not run.pretraining and run.notes == []
    ap = next(curve for curve in run.curves if curve.label == 'AP')
    assert ap.steps.tolist() == [50, 100] and ap.values.tolist() == [20, 40]


def test_the_state_of_a_run(tmp_path):
    work_dir = tmp_path / 'run'
    write_session(work_dir, [])
    age(work_dir, NOW)
    assert collect(work_dir, POINTS).state(NOW) == 'in progress'
    assert collect(work_dir, POINTS).state(NOW + 2 * STALE) == 'not started'
    write_session(work_dir, train_entries([10]), NOW)
    age(work_dir, NOW)
    run = collect(work_dir, POINTS)
    assert run.state(NOW + STALE / 2) == 'in progress' and run.state(NOW + 2 * STALE) == 'stopped'
    # the last iterations are not logged
    (work_dir / 'iter_100.pth').touch()
    assert collect(work_dir, POINTS).state(NOW) == 'finished'
    (work_dir / 'iter_100.pth').unlink()
    line = 'WARNING - Preempted: saved x after iteration 17. The exit status is 75.'
    write_session(work_dir, train_entries([10]), NOW + timedelta(hours=1), lines=[line])
    assert collect(work_dir, POINTS).state(NOW) == 'preempted'


def test_a_session_without_training_does_not_count(tmp_path):
    line = 'WARNING - Preempted: saved x after iteration 17. The exit status is 75.'
    write_session(tmp_path, train_entries([10]), lines=[line])
    log = write_session(tmp_path, [], NOW)
    text = log.read_text()
    log.write_text(text[: text.index(' - mmengine - INFO - Training starts')])
    run = collect(tmp_path, POINTS)
    assert [session.trains for session in run.sessions] == [True, False]
    assert run.sessions[1].beginning == 'no training' and run.state(NOW) == 'preempted'
    assert run.last_session is run.sessions[0]


def test_the_length_of_epochs_is_multiplied(tmp_path):
    log = write_session(tmp_path, [])
    text = log.read_text()
    schedule = '200 epochs of 5,004 iterations, 1,024 images per iteration'
    log.write_text(text.replace('100 iterations, 64 images per iteration', schedule))
    run = collect(tmp_path, POINTS)
    assert run.total == 200 * 5004 and images_per_iteration(run) == 1024
    # another runner logs no summary
    log.write_text(
        text[: text.index('2026/01/01 10:00:20')]
        + '2026/01/01 11:00:00 - mmengine - INFO - Epoch(train)  [1][ 50/117]  lr: 1.0e-02\n'
    )
    (tmp_path / 'x.py').write_text('train_cfg = dict(max_epochs=3)\ntrain_dataloader = '
                                   'dict(batch_size=4)\n')  # fmt: skip
    run = collect(tmp_path, POINTS)
    assert (run.iteration, run.total) == (50, 351) and images_per_iteration(run) == 8


@pytest.mark.parametrize('exists', [True, False])
def test_the_newest_checkpoint_without_a_note_of_mmengine(tmp_path, exists):
    for name in ('epoch_9.pth', 'epoch_10.pth', 'best_x.pth', 'non_finite_iter_3_rank_0.pth'):
        (tmp_path / name).touch()
    for seconds, name in enumerate(('epoch_9.pth', 'epoch_10.pth', 'best_x.pth')):
        os.utime(tmp_path / name, (10**9 + seconds,) * 2)
    if exists:
        (tmp_path / 'last_checkpoint').write_text('deleted.pth')
    assert collect(tmp_path, POINTS).newest.path.name == 'epoch_10.pth'


def test_a_folder_that_does_not_exist_is_a_note(tmp_path):
    run = collect(tmp_path / 'none', POINTS)
    assert run.empty and run.notes == [
        f'{tmp_path}/none is not a folder, so it is not shown; pass the work dir of a run.'
    ]


def test_a_log_of_another_framework_is_a_note(tmp_path):
    (tmp_path / 'metrics.json').write_text('{"iteration": 19, "total_loss": 2.0}\n')
    folder = tmp_path / 'a/vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('{"loss": 1.0}\n' * 3)
    (tmp_path / 'a/train.log').write_text('epoch 1: loss 2.0\n')
    run = collect(tmp_path, POINTS)
    assert run.empty
    assert any('a/train.log is not a log of MMEngine' in note for note in run.notes)
    assert any('none of its 3 JSON lines has a step' in note for note in run.notes)
    assert any('metrics.json in' in note and 'another framework' in note for note in run.notes)


def test_what_can_be_read_is_read(tmp_path):
    work_dir = write_run(tmp_path / 'run')
    for log in work_dir.glob('*/vis_data/scalars.json'):
        log.write_text(log.read_text()[:-40] + '\n{"loss": 1}\nplain text\n')
    (work_dir / 'run.py').write_text('model = dict(')
    (work_dir / 'similarity.json').write_text('{"checkpoints": [3]}')
    (work_dir / 'broken_images.txt').write_bytes(b'/photos/\xff.jpg\treason\nno reason\n\n')
    run = collect(work_dir, POINTS)
    assert run.curves and run.config == {} and run.similarities == []
    assert run.broken_images == [('/photos/\ufffd.jpg', 'reason'), ('no reason', '')]
    assert len(run.notes) == 2
    assert 'similarity.json cannot be read, so it is not shown' in run.notes[0]
    assert run.notes[1].startswith('2 lines of the scalars in')


def test_unreadable_files_are_notes(tmp_path):
    work_dir = write_run(tmp_path / 'run')
    log = next(work_dir.glob('*/*.log'))
    log.unlink()
    log.symlink_to(work_dir)
    run = collect(work_dir, POINTS)
    assert len(run.sessions) == 1
    assert any('The log' in note and 'cannot be read' in note for note in run.notes)


def test_similarity_results(tmp_path):
    results = read_similarity(write_similarity(tmp_path / 'similarity'))
    assert results.description == '1,234 boxes in 96 images of val.json, views of 224 pixels.'
    assert [row.checkpoint for row in results.levels['P3 and P4, between two views']] == [
        'untrained', 'CrossCL'
    ]  # fmt: skip
    assert results.levels['P3 and P4, between two views'][1].margin == pytest.approx(
        (0.4, 0.38, 0.43)
    )
    assert results.stages['C3 and C4']['untrained'][0] == 0.6
    assert results.collapsed == ['CrossCL: the vectors of all regions are alike on P3 (collapse).']
    assert [path.name for path in results.pictures] == ['maps.png']
    assert len(collect(tmp_path, POINTS).similarities) == 1


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"checkpoints": [{"name": 1}]}', '[' * 10**5])
def test_similarity_results_of_another_format_are_an_error(tmp_path, text):
    (tmp_path / 'similarity.json').write_text(text)
    with pytest.raises(ValueError):
        read_similarity(tmp_path / 'similarity.json')


def lines(run):
    return [command.line for command in next_commands(run, NOW)]


def test_commands_of_a_finished_run(tmp_path):
    run = collect(write_run(tmp_path / 'a run'), POINTS)
    path = f"'{tmp_path}/a run/iter_100.pth'"
    assert lines(run) == [
        'mmcrosscl train mmcrosscl::detection/faster-rcnn_r18_demo.py --cfg-options '
        f"'pretrained={tmp_path}/a run/iter_100.pth'",
        f"mmcrosscl convert {path} '{tmp_path}/a run/iter_100_mmdet.pth' --to mmdet",
    ]


def test_commands_of_a_stopped_run(tmp_path):
    work_dir = tmp_path / 'run'
    write_session(work_dir, train_entries([10]))
    (work_dir / 'my detector.py').write_text(CONFIG.replace('CrossCLNeck', 'DetectorNeck'))
    (work_dir / 'iter_10.pth').touch()
    resume, fine_tune, _ = lines(collect(work_dir, POINTS))
    assert resume == (
        f"mmcrosscl train '{work_dir}/my detector.py' --work-dir {work_dir} --gpus 2 --resume"
    )
    assert fine_tune.startswith('mmcrosscl train my_detector.py --cfg-options pretrained=')
    first = next_commands(collect(work_dir, POINTS), datetime.now())[0]
    assert first.purpose == 'Resume the training, after it has ended' and first.line == resume


def test_commands_of_a_backbone_whose_depth_is_a_list(tmp_path):
    work_dir = write_run(tmp_path / 'run')
    for path in work_dir.rglob('*.py'):
        path.write_text(path.read_text().replace('depth=18', 'depth=[3, 4, 6, 3]'))
    fine_tune, _ = lines(collect(work_dir, POINTS))
    assert fine_tune.startswith('mmcrosscl train my_detector.py --cfg-options pretrained=')


def test_commands_of_a_detector(tmp_path):
    work_dir = write_detector_run(tmp_path / 'run')
    (work_dir / 'epoch_2.pth').touch()
    assert lines(collect(work_dir, POINTS)) == [
        f'mmcrosscl test {work_dir}/detector.py {work_dir}/epoch_2.pth'
    ]
