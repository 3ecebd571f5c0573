import os

from mmengine.config import Config

from mmcrosscl.engine import read_config
from mmcrosscl.reports.configs import (
    PUBLISHED,
    differing,
    find_config,
    flatten,
    is_pretraining,
    read_config_file,
    settings_of_training,
)
from tests.reports.work_dirs import CONFIG, DETECTOR


def test_flatten_names_items_of_lists_of_dicts():
    config = dict(a=dict(b=(1, (2,)), c=[dict(d=1), 5], e={}), f=[])
    assert flatten(config) == {'a.b': [1, [2]], 'a.c.0.d': 1, 'a.c.1': 5, 'f': []}


def test_a_config_is_read_without_running_it(tmp_path):
    path = tmp_path / 'x.py'
    path.write_text(f'{CONFIG}\nimport os\nos.mkdir({str(tmp_path / "made")!r})\nx = os.getcwd()\n')
    config = read_config_file(path)
    assert config['optim_wrapper.optimizer.lr'] == -0.03
    assert config['model.neck.in_channels'] == [128, 256, 512]
    assert not (tmp_path / 'made').exists()


def test_the_published_recipe_does_not_differ_from_its_dumped_config(tmp_path):
    published = read_config(PUBLISHED)
    path = tmp_path / 'r50_8xb32.py'
    published.work_dir, published.launcher = 'work_dirs/x', 'pytorch'
    published.dump(path)
    expected = settings_of_training(flatten(published.to_dict()))
    assert differing(expected, settings_of_training(read_config_file(path))) == []
    cfg = Config.fromfile(path)
    cfg.model.queue.length = 512
    cfg.randomness.deterministic = 0
    cfg.train_dataloader.dataset.pipeline[1].scale = 96
    cfg.new = dict(setting=1)
    cfg.dump(path)
    assert differing(expected, settings_of_training(read_config_file(path))) == [
        'model.queue.length',
        'new.setting',
        'randomness.deterministic',
        'train_dataloader.dataset.pipeline.1.scale',
    ]


def test_copies_of_a_pipeline_are_one_setting(tmp_path):
    (tmp_path / 'x.py').write_text(CONFIG)
    config = read_config_file(tmp_path / 'x.py')
    assert 'train_pipeline.1.scale' in config
    assert not any(name.startswith('train_pipeline') for name in settings_of_training(config))


def test_the_newest_complete_config_is_found(tmp_path):
    assert find_config(tmp_path) is None
    for age, (name, text) in enumerate(
        [
            ('incomplete.py', "_base_ = 'x.py'\nmodel = dict(type='A')"),
            ('broken.py', 'model = dict('),
            ('new.py', CONFIG),
            ('old.py', DETECTOR),
        ]
    ):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (10**9 - age, 10**9 - age))
    assert find_config(tmp_path).name == 'new.py'
    copy = tmp_path / '20260101_000000/vis_data/config.py'
    copy.parent.mkdir(parents=True)
    copy.write_text(CONFIG)
    for path in tmp_path.glob('*.py'):
        path.unlink()
    assert find_config(tmp_path) == copy


def test_pretraining_is_recognized(tmp_path):
    for text, expected in ((CONFIG, True), (DETECTOR, False)):
        (tmp_path / 'x.py').write_text(text)
        assert is_pretraining(read_config_file(tmp_path / 'x.py')) == expected
