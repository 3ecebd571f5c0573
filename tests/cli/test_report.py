from tests.reports.work_dirs import write_run


def test_the_path_of_the_page_is_printed(command, tmp_path):
    run = write_run(tmp_path / 'run')
    done = command('report', run)
    assert done.status == 0 and done.out == f'{run}/report.html\n'
    done = command('report', run, tmp_path / 'none', '--out', tmp_path / 'x.html')
    assert done.status == 0 and (tmp_path / 'x.html').is_file()


def test_a_folder_without_a_run_is_an_error(command, tmp_path):
    done = command('report', tmp_path)
    assert done.status == 1
    assert done.last == (
        f'error: {tmp_path}: there is no log, config or checkpoint of a run; pass the work dir of '
        'a run'
    )
