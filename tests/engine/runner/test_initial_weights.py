import http.server
import threading
from functools import partial

import pytest
import torch
from mmengine.config import Config

from mmcrosscl.engine.runner.initial_weights import load_from_file
from mmcrosscl.errors import InputError
from tests.ports import free_port


def test_a_url_is_downloaded_once(tmp_path, monkeypatch):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
    (tmp_path / 'coco.pth').write_bytes(b'weights')
    handler = partial(Handler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cfg = Config(dict(load_from=f'http://127.0.0.1:{server.server_port}/coco.pth?version=1'))
    try:
        path = load_from_file(cfg, 'mine.py')
    finally:
        server.shutdown()
        server.server_close()
    assert path == tmp_path / 'cache/checkpoints/coco.pth' and path.read_bytes() == b'weights'
    # without the server
    assert load_from_file(cfg, 'mine.py') == path


def test_a_file_that_cannot_be_loaded_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    url = f'http://127.0.0.1:{free_port()}/coco.pth'
    with pytest.raises(InputError, match=f'initial weights {url} cannot be downloaded'):
        load_from_file(Config(dict(load_from=url)), 'mine.py')
    with pytest.raises(InputError, match=r'mine\.py sets load_from to gone\.pth, which is not a'):
        load_from_file(Config(dict(load_from='gone.pth')), 'mine.py')
    assert load_from_file(Config(dict(load_from=None)), 'mine.py') is None
