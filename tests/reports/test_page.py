import base64
import hashlib
import html
import json
import math
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mmcrosscl.reports import Report, collect, render_page
from mmcrosscl.reports.figures import build_figures, format_numbers, plot_data
from mmcrosscl.reports.page import run_names, whisker
from mmcrosscl.reports.pictures import picture
from mmcrosscl.reports.run_view import RunView, format_duration, format_estimate
from tests.reports.work_dirs import (
    CONFIG,
    train_entries,
    write_detector_run,
    write_run,
    write_session,
    write_similarity,
)

NOW = datetime(2026, 3, 1)
EVIL = '<script>alert(1)</script>'
PUBLISHED = {'model.queue.length': 65536, 'model.momentum': 0.001}


def page_of(*work_dirs, **contents):
    """Return the page of work dirs without the code of plotly.js."""
    runs = [collect(work_dir, 100) for work_dir in work_dirs]
    pictures = {results.path: () for run in runs for results in run.similarities}
    page = render_page(Report(runs, PUBLISHED, NOW, **{'pictures': pictures, **contents}))
    return re.sub(r'<script>.*?</script>', '', page, count=1, flags=re.DOTALL)


def data_of(page):
    """Return the data of the figures."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def text_of(page):
    """Return the visible text."""
    body = page[page.index('<body') :]
    return html.unescape(re.sub(r'\s+', ' ', re.sub('<[^>]*>', ' ', body)))


def test_a_page_has_all_sections(tmp_path):
    work_dir = write_run(tmp_path / 'run')
    write_similarity(work_dir / 'similarity')
    views = {work_dir: picture(np.zeros((4, 4, 3), np.uint8), 'Views of run')}
    page = page_of(work_dir, views=views, notes=['A note.'])
    titles = re.findall(r'<h2 id="(\w+)"><span class="count">(\d+)</span> (.*?)</h2>', page)
    assert [title for *_, title in titles] == [
        'Training', 'Evaluation', 'Throughput', 'Similarity of regions', 'Sample views',
        'Configuration', 'Machine and versions', 'Interruptions and resumes', 'Unreadable images',
        'Checkpoints', 'Commands to continue',
    ]  # fmt: skip
    assert [int(number) for _, number, _ in titles] == list(range(1, 12))
    assert re.findall(r'<li><a href="#(\w+)">', page) == [name for name, *_ in titles]
    text = text_of(page)
    for expected in (
        'finished', 'iteration 100 of 100', 'last loss 25', 'margin P3 → P4 0.45 [0.42, 0.48]',
        'CrossCL with ResNet-18', 'A note.', 'preempted; checkpoint saved after iteration 42',
        '1 update skipped because of NaN/Inf (12)', 'resumed after iteration 42',
        '/photos/a.jpg', 'GPU 0 NVIDIA H100', 'untrained 0.10 [0.08, 0.13]', 'iter_100.pth newest',
        '2.0 MB in total', 'mmcrosscl convert',
    ):  # fmt: skip
        assert expected in text, expected


def test_an_empty_section_is_omitted(tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(b'x')
    page = page_of(tmp_path)
    assert re.findall(r'<h2 id="(\w+)"', page) == ['checkpoints']
    assert 'class="toolbar"' not in page


def test_differences_from_the_published_recipe(tmp_path):
    page = page_of(write_run(tmp_path / 'run'))
    table = page[page.index('Differences from the published') :]
    rows = dict(
        re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', table[: table.index('</ta')])
    )
    cells = {text_of('<body' + name).strip('<body '): row for name, row in rows.items()}
    assert '65536' in cells['model. queue. length'] and '512' in cells['model. queue. length']
    assert cells['model. momentum'].count('not set') == 1
    assert not any('pipeline' in name and name.startswith('train_pipeline') for name in cells)
    assert not any('work_dir' in name for name in cells)


def test_a_fine_tuning_run_is_not_compared_with_the_recipe(tmp_path):
    page = page_of(write_detector_run(tmp_path / 'run'))
    assert 'published recipe' not in page and 'All 6 settings of run' in page
    assert 'Box AP 40 best 40' in text_of(page)


def test_several_runs_share_figures_and_differ_by_color(tmp_path):
    runs = [collect(write_run(tmp_path / name), 100) for name in ('a', 'b')]
    runs.append(collect(write_detector_run(tmp_path / 'c'), 100))
    figures = build_figures(runs, ['a', 'b', 'c'])
    assert [s.label for s in figures[0].series] == ['a', 'b', 'c']
    assert [s.color for s in figures[0].series] == [0, 1, 2]
    titles = [figure.title for figure in figures]
    assert 'Loss: P4 → P3' in titles and 'Loss: cls' in titles and 'Learning rate' in titles
    assert len(titles) == len(set(titles))
    page = page_of(*(tmp_path / name for name in 'abc'))
    assert '<h1>3 runs</h1>' in page and len(re.findall('data-run="', page)) == 3


def test_the_terms_of_one_run_share_a_figure(tmp_path):
    run = collect(write_run(tmp_path / 'run'), 100)
    figures = {figure.plot.name: figure for figure in build_figures([run], ['run'])}
    assert [s.color for s in figures['terms'].series] == [0, 1, 2, 3, 4]
    assert [s.label for s in figures['terms'].series][3] == 'P4 → P3'
    data = plot_data(list(figures.values()), [run])
    assert data['resumes'] == [42]
    margin = data['figures'][list(figures).index('margin')]['series'][0]
    assert margin['x'] == [40, 100] and margin['interval'][0] == pytest.approx([0.18, 0.42])


def test_nan_is_a_gap_and_a_note(tmp_path):
    entries = train_entries([10, 20, 30])
    entries[1]['loss'] = math.nan
    write_session(tmp_path, entries)
    page = page_of(tmp_path)
    assert data_of(page)['figures'][0]['series'][0]['y'][1] is None
    assert 'loss: 1 of 3 values are NaN or Inf.' in text_of(page)


def test_everything_from_files_is_escaped(tmp_path):
    # a folder name cannot contain a slash
    work_dir = write_run(tmp_path / '<script>alert(1)')
    config = CONFIG.replace("'/photos'", repr(EVIL))
    (work_dir / 'run.py').write_text(config + f'"{EVIL}" = 1\n')
    (work_dir / 'run.py').write_text(config + f'x = dict(**{{{EVIL!r}: 1}})\ny = {{{EVIL!r}: 1}}\n')
    (work_dir / 'broken_images.txt').write_text(f'{EVIL}.jpg\t{EVIL}\n')
    (work_dir / '<img src=x onerror=alert(1)>.pth').touch()
    write_similarity(work_dir / EVIL.replace('/', ''), (EVIL, f'"{EVIL}'))
    entry = {**train_entries([10])[0], f'loss_{EVIL}': 1.0, f'{EVIL}/x': 1.0}
    start = NOW - timedelta(days=1)
    log = write_session(work_dir, [entry, {f'{EVIL}/x': 1.0, 'step': 0}], start)
    log.write_text(log.read_text().replace('ResNet-18', EVIL).replace('NVIDIA H100', EVIL))
    page = page_of(work_dir, notes=[EVIL])
    assert page.count('<script>') == 1 and '<img' not in page
    assert len(re.findall('<script', page)) == 2
    assert text_of(page).count(EVIL) > 15
    assert any(series['label'] == EVIL for f in data_of(page)['figures'] for series in f['series'])


def test_bytes_that_are_not_utf8_are_shown(tmp_path):
    work_dir = tmp_path / 'caf\udce9'
    work_dir.mkdir()
    (work_dir / 'a.pth').touch()
    assert 'caf\\udce9' in page_of(work_dir)


def test_the_policy_allows_only_the_scripts_of_the_page(tmp_path):
    (tmp_path / 'a.pth').touch()
    page = render_page(Report([collect(tmp_path, 100)], {}, NOW))
    policy = html.unescape(re.search(r'Content-Security-Policy" content="(.*?)"', page)[1])
    scripts = re.findall(r'<script>(.*?)</script>', page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(scripts) == 2 and re.findall("'sha256-(.*?)'", policy) == hashes
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert 'connect-src' not in policy and 'http' not in policy
    # no reference to another file
    page = re.sub('<script>.*?</script>', '', page, flags=re.DOTALL)
    assert not re.search(r'<link|<iframe|<object|<embed|@import|url\(|src="(?!data:)', page)


def test_long_lists_are_cut(tmp_path):
    (tmp_path / 'broken_images.txt').write_text(''.join(f'{n}.jpg\tx\n' for n in range(150)))
    text = text_of(page_of(tmp_path))
    assert '150 unreadable images' in text and 'the first 100 are shown' in text
    assert '99.jpg' in text and '100.jpg' not in text


def test_tables_have_captions_and_headers(tmp_path):
    work_dir = write_run(tmp_path / 'run')
    write_similarity(work_dir)
    page = page_of(work_dir)
    for table in re.findall(r'<table.*?</table>', page, re.DOTALL):
        assert '<caption' in table and 'scope="col"' in table and 'scope="row"' in table
    assert len(re.findall(r'role="img" aria-label="Line plot of', page)) == len(
        data_of(page)['figures']
    )


def test_names_of_runs_are_short_and_unique():
    paths = [Path(p) for p in ('/a/run', '/b/run', '/c/other', 'x/y')]
    assert run_names(paths) == ['a/run', 'b/run', 'other', 'y']
    assert run_names([Path('/')]) == ['/']


@pytest.mark.parametrize(
    'values, texts',
    [
        ([6.11, 2.937], ['6.110', '2.937']),
        ([0.03, 0.0], ['0.03', '0.00']),
        ([2.0, 20000.0], ['2', '20,000']),
        ([math.nan, math.inf, -math.inf, -1.5], ['NaN', 'Inf', '−Inf', '−1.5']),
        ([1e-7, 0.0], ['1.00e−07', '0.00e+00']),
        ([0.0], ['0']),
        ([math.nan], ['NaN']),
    ],
)
def test_numbers_have_equal_decimals(values, texts):
    assert format_numbers(values) == texts


def test_estimates_as_text():
    assert format_estimate((0.456, 0.4, 0.5)) == ('0.46', '[0.40, 0.50]')
    assert format_estimate((-0.1, -0.2, 0.0)) == ('−0.10', '[−0.20, 0.00]')
    assert format_estimate((0.5, 0.42, 0.55), True) == ('50 %', '[42, 55]')
    assert format_estimate((0.5, math.nan, math.nan)) == ('0.50', '')
    assert format_estimate((math.nan,) * 3) == ('unknown', '')


def test_durations_as_text():
    assert format_duration(timedelta(seconds=75)) == '1 min 15 s'
    assert format_duration(timedelta(hours=5, minutes=7)) == '5 h 7 min'
    assert format_duration(timedelta(days=2, hours=3)) == '2 d 3 h'


def test_margins_are_marked_on_one_axis(tmp_path):
    write_similarity(tmp_path)
    (results,) = collect(tmp_path, 100).similarities
    # the axis is from 0 to 0.43
    assert whisker((0.43, 0.0, 0.43), results) == (
        '--zero: 0.00%; --at: 100.00%; --low: 0.00%; --high: 100.00%'
    )
    assert whisker((math.nan, 0.0, 0.1), results) == ''


def test_how_sessions_ended(tmp_path):
    write_session(tmp_path, train_entries([10]))
    write_session(tmp_path, train_entries([20]), NOW)
    run = collect(tmp_path, 100)
    later = datetime.now() + timedelta(days=1)
    endings = [text for _, text in RunView('run', 0, run, later).endings]
    assert all(text.startswith('ended without a message in 2026') for text in endings)
    endings = [text for _, text in RunView('run', 0, run, datetime.now()).endings]
    assert endings[1] == 'in progress'


def test_large_pictures_are_compressed(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (700, 2000, 3), dtype=np.uint8)
    large = picture(noise, 'noise')
    assert large.uri.startswith('data:image/jpeg;base64,') and (large.width, large.height) == (
        1600,
        560,
    )
    small = picture(np.zeros((4, 6, 3), np.uint8), 'black')
    assert small.uri.startswith('data:image/png;base64,') and (small.width, small.height) == (6, 4)
    for contents in (b'', b'<svg onload="alert(1)"/>'):
        (tmp_path / 'x.png').write_bytes(contents)
        with pytest.raises(OSError):
            picture(tmp_path / 'x.png', 'x')
