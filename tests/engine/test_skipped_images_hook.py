import re

from mmcrosscl.engine import build_runner
from tests.training import tiny_config


def test_broken_files_are_named_once_and_counted(tmp_path):
    cfg = tiny_config(tmp_path, epochs=3, images=10, workers=2)
    (tmp_path / 'photos/empty.jpg').write_bytes(b'')
    (tmp_path / 'photos/text.png').write_bytes(b'text')
    build_runner(cfg).train()
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    for name in ('empty.jpg', 'text.png'):
        assert len(re.findall(f'Skipped broken image .*{name} \\(UnidentifiedImageError', log)) == 1
    assert '; 1 so far.' in log and '; 2 so far.' in log
    assert '2 broken image files were skipped in all' in log


def test_a_sound_folder_is_passed_over_in_silence(tmp_path):
    build_runner(tiny_config(tmp_path)).train()
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'skipped' not in log.lower().replace('skippedimageshook', '')
