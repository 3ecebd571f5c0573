"""Every command of the documentation is run by a test, or names what it needs that the tests lack.

The commands of a page run in their order, in a folder with small stand-ins for the files that no
earlier command writes. Further options make them short.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pytest
from mmengine.config import utils
from yapf.yapflib import yapf_api

from mmcrosscl.cli import VERBS, build_parser
from mmcrosscl.studies import estimate, job_runner
from tests.cli import stand_ins
from tests.cli.stand_ins import ROOT, labeled, photos
from tests.datasets.demo.test_scenes import needs_packages
from tests.training import tiny_options

PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted(ROOT.glob('docs/*.md'))]
# what a comment after a command, or above it, says that the command needs
NEEDS = re.compile(
    r'#.*\bneeds (root|a network|Docker|a GPU|eight GPUs|two nodes|two machines|a Slurm cluster)\b'
)
ASSIGNMENT = re.compile(r'(\w+)=(\S+)')
# the test that runs a command, or the line of a workflow
ELSEWHERE = {
    'make demo': 'tests/cli/test_demo.py::test_continued_pre_training_on_scenes',
    'make demo DATA=/my/photos': 'tests/cli/test_demo.py::test_pre_training_on_photographs',
    'make docs': '.github/workflows/ci.yml::- run: make docs',
    'make test': '.github/workflows/ci.yml::- run: make test',
    'make lint': '.github/workflows/ci.yml::- run: make lint',
    # both are parts of `make lint` and `make test`
    'make check': '.github/workflows/ci.yml::- run: make lint',
    'ruff format .': '.github/workflows/ci.yml::- run: make lint',
    # all targets run it first
    'make setup': '.github/workflows/ci.yml::- run: make lint',
    '. .venv/bin/activate': (
        'tests/cli/test_documented_commands.py::test_an_environment_is_activated'
    ),
    'python -m pytest tests/models/test_head.py -k weight': (
        'tests/models/test_head.py::test_weight_scales_a_term'
    ),
    'mmcrosscl pretrain --detector mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py --data /my/photos'
    ' --work-dir work_dirs/rtmdet_s': (
        'tests/cli/test_pretrain.py::test_the_command_prints_what_it_does_and_resumes'
    ),
    'mmcrosscl train configs/detection/mask-rcnn_r50_fpn_1x_coco.py'
    ' --cfg-options pretrained=work_dirs/r50_8xb32/epoch_200.pth': (
        'tests/test_detection_configs.py::test_a_detector_loads_the_checkpoint_trains_and_is_tested'
    ),
    'mmcrosscl test configs/detection/mask-rcnn_r50_fpn_1x_coco.py'
    ' work_dirs/mask-rcnn_r50_fpn_1x_coco/iter_90000.pth': (
        'tests/test_detection_configs.py::test_a_detector_loads_the_checkpoint_trains_and_is_tested'
    ),
    'mmcrosscl pretrain --detector my_rtmdet_s.py --data /my/photos'
    ' --work-dir work_dirs/rtmdet_s': (
        'tests/cli/test_pretrain.py::test_the_command_prints_what_it_does_and_resumes'
    ),
    'mmcrosscl test configs/benchmarks/r50_8xb64-knn_in1k.py'
    ' --cfg-options pretrained=work_dirs/r50_8xb32/epoch_200.pth': (
        'tests/cli/test_test.py::test_neighbors_need_no_trained_model'
    ),
    'pip install .': 'tests/test_inheritance.py::test_the_wheel_contains_configs_tools_and_index',
    'pip install ".[onedl]"': (
        'tests/test_inheritance.py::test_the_wheel_contains_configs_tools_and_index'
    ),
    'python tools/benchmark.py all': 'tests/tools/test_benchmark.py::test_a_part_prints_its_tables',
    'python "$(python -c \'import mmdet; print(mmdet.__path__[0])\')/.mim/tools/misc/split_coco.py"'
    ' --data-root data/coco --out-dir data/coco/semi_anns --fold 1': (
        'tests/test_detection_configs.py'
        '::test_mmdetections_script_writes_the_annotations_of_the_low_label_configs'
    ),
    'mmcrosscl replay configs/crosscl/r50_8xb32.py'
    ' work_dirs/r50_8xb32/non_finite_iter_1234_rank_0.pth': (
        'tests/engine/optim/test_replay.py'
        '::test_consecutive_nan_inf_steps_stop_training_and_can_be_replayed'
    ),
    'tools/dist_train.sh configs/crosscl/r18_demo.py 2': (
        'tests/tools/test_dist_train.py'
        '::test_two_processes_train_over_gloo_with_one_view_size_and_are_preempted'
    ),
    "sbatch --array=1-8 --gpus=1 --requeue --wrap 'mmcrosscl study --work-dir work_dirs/study"
    " --detector my_detector.py …'": (
        'tests/studies/test_slurm.py::test_an_array_runs_a_study_and_a_killed_task_loses_nothing'
    ),
}
# functions that write the files of a page
FILES: dict[str, list[Callable[[], None]]] = {
    'README.md': [
        partial(photos, 'my/photos'), labeled, stand_ins.detector,
    ],
    'data.md': [partial(photos, 'my/photos')],
    'convert.md': [stand_ins.published, stand_ins.foreign],
    'fine-tuning.md': [
        stand_ins.foreign, partial(labeled, 'data/demo_sensor'), stand_ins.rtmdet,
        stand_ins.pretrained_rtmdet,
    ],
    'getting-started.md': [
        partial(photos, 'data/demo_sensor/unlabeled'), partial(labeled, 'data/demo_sensor'),
        stand_ins.rtmdet,
    ],
    'similarity.md': [partial(photos, 'data/photos'), stand_ins.demo, stand_ins.runs],
    'study.md': [partial(photos, 'my/photos'), labeled, stand_ins.detector],
    'training.md': [
        stand_ins.imagenet, partial(photos, 'data/photos'), partial(photos, 'my/photos'),
        stand_ins.runs, stand_ins.published,
    ],
}  # fmt: skip
# words that make a command short, by a word of the command
SHORT = {
    'pretrain': ['--iters', '1', '--batch-size', '2', '--cfg-options', 'train_pipeline.1.scale=64'],
    'similarity': ['--count', '10', '--view-size', '64'],
    'probe': ['--labels', '20', '--folds', '1', '--view-size', '64'],
    'scenes': ['--unlabeled', '4', '--train', '60', '--test', '20'],
    'configs/crosscl/r50_8xb32.py': [
        '--cfg-options', *tiny_options(Path('data/imagenet')), 'train_cfg.max_epochs=1',
    ],
    'data/scenes/annotations/train.json': ['--labels', '20'],
    'data/sensor/annotations/train.json': ['--labels', '20'],
    'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py': ['--from-scratch'],
    'work_dirs/photos_detector': [
        '--cfg-options', 'train_cfg.max_iters=1', 'train_cfg.val_interval=1',
    ],
}  # fmt: skip
# the checkpoints that the short commands write
SHORTER = {'epoch_36.pth': 'epoch_1.pth', 'iter_1500.pth': 'iter_1.pth', '/my/': 'my/'}


class Command(NamedTuple):
    """A command of a page, and whether it names what it needs."""

    line: str
    marked: bool


def commands(page: Path) -> list[Command]:
    """Return the commands in the shell blocks of a page."""
    found = []
    for block in re.findall(r'```shell\n(.*?)```', page.read_text(), re.DOTALL):
        above = ''
        for text in block.replace('\\\n', ' ').splitlines():
            line = ' '.join(re.sub(r'(^|\s)#.*', '', text).split())
            if line:
                found.append(Command(line, bool(NEEDS.search(above) or NEEDS.search(text))))
                above = ''
            else:
                above = f'{above} {text}' if text.strip() else ''
    return found


def to_run(page: Path) -> list[str]:
    """Return the commands of a page that no other test runs."""
    lines = [line for line, marked in commands(page) if not marked and line not in ELSEWHERE]
    if page.parent == ROOT:
        # what a page of docs/ has too is run there
        lines = [line for line in lines if line not in OF_THE_SITE]
    return lines


OF_THE_SITE = {line for page in PAGES if page.parent != ROOT for line, _ in commands(page)}


def with_packages(page: Path):
    marks = [needs_packages] if any('scenes' in line.split() for line in to_run(page)) else []
    return pytest.param(page, id=page.name, marks=marks)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_command_is_run_or_names_what_it_needs(page):
    for line in to_run(page):
        assert line.startswith('mmcrosscl ') or ASSIGNMENT.fullmatch(line), (
            f'{page.name}: no test runs `{line}`; name the test in ELSEWHERE, or name what the '
            'command needs in a comment that NEEDS matches'
        )


@pytest.fixture
def without_jobs(monkeypatch):
    """Let a study end before its jobs, which tests/studies/test_run.py runs."""
    monkeypatch.setattr(estimate, 'estimate', lambda work_dir, study: {})
    monkeypatch.setattr(job_runner.StudyRunner, 'run', lambda self: None)


@pytest.fixture
def fast_configs(monkeypatch):
    """Spare two parts of MMEngine that take half of the time: the layout of a config that is
    written, and the index of a package, which is read again for each inherited config.
    """
    monkeypatch.setattr(yapf_api, 'FormatCode', lambda text, **settings: (text, True))
    monkeypatch.setattr(utils, '_get_cfg_metainfo', cache(utils._get_cfg_metainfo))


@pytest.mark.slow(30)
@pytest.mark.parametrize('page', [with_packages(page) for page in PAGES if to_run(page)])
@pytest.mark.usefixtures('without_jobs', 'fast_configs')
def test_the_commands_of_a_page_run(page, tmp_path, monkeypatch, command):
    for name in ('configs', 'docs'):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    for write in FILES.get(page.name, ()):
        write()
    variables = {}
    for line in to_run(page):
        if assignment := ASSIGNMENT.fullmatch(line):
            variables[f'${assignment[1]}'] = assignment[2]
            continue
        for before, after in (variables | SHORTER).items():
            line = line.replace(before, after)
        words = shlex.split(line)
        words += [word for key, more in SHORT.items() if key in words for word in more]
        done = command(*words[1:])
        assert done.status == 0, f'{page.name}: {line}\n{done.err}'


@pytest.mark.parametrize('place', sorted(set(ELSEWHERE.values())))
def test_the_other_tests_exist(place):
    path, _, name = place.partition('::')
    lines = (ROOT / path).read_text().splitlines()
    assert any(line.strip().startswith((f'def {name}(', name)) for line in lines)


def test_no_entry_is_left_of_a_command_that_was_removed():
    lines = {line for page in PAGES for line, _ in commands(page)}
    assert set(ELSEWHERE) <= lines
    assert {name for name in FILES} <= {page.name for page in PAGES if to_run(page)}


def test_an_environment_is_activated(tmp_path):
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', tmp_path / '.venv'], check=True)
    done = subprocess.run(
        ['sh', '-c', '. .venv/bin/activate && command -v python'],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == f'{tmp_path}/.venv/bin/python'


NOT_RUN = {line for page in PAGES for line, _ in commands(page)} - {
    line for page in PAGES for line in to_run(page)
}


@pytest.mark.parametrize('line', sorted(x for x in NOT_RUN if x.startswith('mmcrosscl ')))
def test_a_command_that_is_not_run_here_is_parsed(line):
    build_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_a_command_within_a_sentence_names_what_exists(page, command):
    targets = re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    text = re.sub('```.*?```', '', page.read_text(), flags=re.DOTALL)
    for code in re.findall('`([^`]+)`', text):
        words = code.split()
        if words[0] == 'make':
            assert words[1] in targets, code
        elif words[0] == 'mmcrosscl' and words[1:]:
            assert words[1] in VERBS, code
            options = [word for word in words if word.startswith('--')]
            assert all(option in command(words[1], '--help').out for option in options), code
