import pytest

from mmcrosscl.errors import InputError
from mmcrosscl.reports import write_report
from tests.reports.work_dirs import (
    train_entries,
    write_detector_run,
    write_run,
    write_session,
    write_similarity,
)
from tests.training import tiny_config


def test_the_report_is_written_to_the_first_work_dir(tmp_path):
    runs = [write_run(tmp_path / 'a'), write_detector_run(tmp_path / 'b')]
    out = write_report(runs)
    assert out == tmp_path / 'a/report.html' and out.stat().st_size < 6e6
    page = out.read_text()
    assert page.startswith('<!DOCTYPE html>') and page.endswith('</html>')
    assert '<h1>2 runs</h1>' in page
    assert not list(tmp_path.glob('a/.*'))


def test_out_sets_the_file(tmp_path):
    out = tmp_path / 'page.html'
    out.write_text('old')
    assert write_report([write_run(tmp_path / 'a')], out) == out
    assert 'old' != out.read_text() and not (tmp_path / 'a/report.html').exists()


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='cannot write .*file/x.html: Not a directory'):
        write_report([write_run(tmp_path / 'a')], tmp_path / 'file/x.html')


def test_nothing_to_show_is_an_error(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='empty, .*none: there is no log, config or checkpoint of'):
        write_report([tmp_path / 'empty', tmp_path / 'none'])
    assert list((tmp_path / 'empty').iterdir()) == []


def test_missing_empty_and_repeated_folders_are_notes(tmp_path):
    run = write_run(tmp_path / 'run')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'link').symlink_to(run)
    out = write_report([run, tmp_path / 'none', tmp_path / 'empty', tmp_path / 'link', run])
    page = out.read_text()
    assert out == run / 'report.html' and '<h1>run</h1>' in page
    for note in (
        'A work dir that is named more than once is shown once.',
        f'{tmp_path}/none is not a folder, so it is not shown; pass the work dir of a run.',
        f'{tmp_path}/empty contains nothing to show.',
        'Sample views of run are not shown: ',
    ):
        assert note in page, note


def test_the_first_folder_may_be_missing(tmp_path):
    out = write_report([tmp_path / 'none', write_run(tmp_path / 'run')])
    assert out == tmp_path / 'run/report.html'


def test_a_picture_that_cannot_be_read_is_a_note(tmp_path):
    run = write_run(tmp_path / 'run')
    write_similarity(run / 'similarity')
    # a picture of another command, in the same folder
    (run / 'similarity/losses.png').write_bytes(b'x')
    page = write_report([run]).read_text()
    assert page.count('alt="maps"') == 1 and 'losses' not in page
    (run / 'similarity/maps.png').write_bytes(b'x')
    page = write_report([run]).read_text()
    assert 'maps.png cannot be read, so it is not shown' in page and 'alt="maps"' not in page


@pytest.mark.slow
def test_sample_views_are_drawn(tmp_path):
    cfg = tiny_config(tmp_path, epochs=1, images=4)
    work_dir = tmp_path / 'run'
    write_session(work_dir, train_entries([10]))
    cfg.dump(work_dir / 'tiny.py')
    page = write_report([work_dir]).read_text()
    assert 'Sample views</h2>' in page and 'alt="Views of run"' in page
    assert 'Sample views of run' not in page


@pytest.mark.parametrize(
    'statement', ['raise SystemError("a\\nb")', 'raise SystemExit(3)', '1 / 0']
)
def test_a_config_that_fails_is_a_note(tmp_path, statement):
    run = write_run(tmp_path / 'run')
    with (run / 'run.py').open('a') as file:
        file.write(f'{statement}\n')
    page = write_report([run]).read_text()
    assert 'Sample views of run are not shown: ' in page and 'Training</h2>' in page
