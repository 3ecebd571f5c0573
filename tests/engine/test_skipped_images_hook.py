import os
import re
from pathlib import Path

from mmcrosscl.engine import build_runner
from tests.training import tiny_config


def test_broken_files_are_named_once_and_counted(tmp_path):
    cfg = tiny_config(tmp_path, epochs=3, images=10, workers=2)
    (tmp_path / 'photos/empty.jpg').write_bytes(b'')
    (tmp_path / 'photos/text.png').write_bytes(b'text')
    Path(os.fsdecode(os.fsencode(tmp_path) + b'/photos/caf\xe9.jpg')).write_bytes(b'')
    build_runner(cfg).train()
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    for name in ('empty.jpg', 'text.png', r'caf\\xe9.jpg'):
        assert len(re.findall(f'Skipped broken image .*{name} \\(no image in a format', log)) == 1
    assert '; 1 so far.' in log and '; 3 so far.' in log
    assert '3 broken image files were skipped in all' in log


def test_a_sound_folder_is_passed_over_in_silence(tmp_path):
    build_runner(tiny_config(tmp_path)).train()
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'skipped' not in log.lower().replace('skippedimageshook', '')
