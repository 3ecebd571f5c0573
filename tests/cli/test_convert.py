"""The command `mmcrosscl convert`."""

import pytest
import torch
import torchvision

from mmcrosscl.checkpoints import TARGETS, read_checkpoint
from tests.checkpoints.hostile import Hostile
from tests.checkpoints.makers import crosscl, moco, reference


@pytest.fixture
def run(command):
    def run(*words):
        done = command('convert', *words)
        assert done.status == 0, done.err
        return done.out

    return run


@pytest.fixture(scope='module')
def src(tmp_path_factory):
    path = tmp_path_factory.mktemp('src') / 'epoch_200.pth'
    torch.save({'state_dict': crosscl().state_dict(), 'meta': {'epoch': 200}}, path)
    return path


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('to', TARGETS)
def test_every_target_is_written_and_reported(run, src, tmp_path, to, suffix):
    dst = tmp_path / f'out{suffix}'
    out = run(src, dst, '--to', to)
    assert out.startswith(f'{src}: CrossCL of mmcrosscl\n') and f'wrote {dst}' in out
    assert ('why' in out) == (to != 'crosscl')
    written = read_checkpoint(dst)
    entry = {'detectron2': 'model', 'torchvision': None, 'timm': None}.get(to, 'state_dict')
    state = written if entry is None or suffix == '.safetensors' else written[entry]
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert ('PIXEL_MEAN' in out) == (to == 'detectron2')


def test_the_reference_is_converted_for_a_detector_whose_pyramid_starts_at_c3(run, tmp_path):
    torch.save({'state_dict': reference(18), 'epoch': 200, 'arch': 'resnet18'}, tmp_path / 'a.tar')
    out = run(tmp_path / 'a.tar', tmp_path / 'b.pth', '--to', 'mmdet', '--start-level', '1')
    assert 'CrossCL of the reference, or ReSim' in out
    state = read_checkpoint(tmp_path / 'b.pth')['state_dict']
    assert state['neck.lateral_convs.0.conv.weight'].shape[1] == 128  # C3


def test_raw_converts_the_weights_before_averaging(run, src, tmp_path):
    state = crosscl().state_dict()
    # MMEngine's EMAHook saves the weights before averaging as ema_state_dict
    raw = {f'module.{name}': torch.zeros_like(value) for name, value in state.items()}
    torch.save({'state_dict': state, 'ema_state_dict': raw}, tmp_path / 'ema.pth')
    run(tmp_path / 'ema.pth', tmp_path / 'a.pth', '--to', 'timm')
    run(tmp_path / 'ema.pth', tmp_path / 'b.pth', '--to', 'timm', '--raw')
    assert read_checkpoint(tmp_path / 'a.pth')['conv1.weight'].any()
    assert not read_checkpoint(tmp_path / 'b.pth')['conv1.weight'].any()


def test_a_prefix_selects_an_encoder(command, run, tmp_path):
    state = moco(2)
    torch.save(state, tmp_path / 'a.pth')
    out = run(tmp_path / 'a.pth', tmp_path / 'b.pth', '--to', 'timm', '--prefix', 'encoder_k.')
    assert 'a.pth: ResNet-18 in encoder_k\n' in out
    weight = read_checkpoint(tmp_path / 'b.pth')['conv1.weight']
    assert torch.equal(weight, state['module.encoder_k.conv1.weight'])
    words = ('--to', 'timm', '--prefix', 'encoder_z.')
    done = command('convert', tmp_path / 'a.pth', tmp_path / 'c.pth', *words)
    assert done.status == 1 and 'no ResNet-18 to -152 is below the prefix encoder_z.' in done.err
    assert not (tmp_path / 'c.pth').exists()


def test_the_report_says_what_was_adapted(run, tmp_path):
    input_format = dict(mean=[1, 2, 3], std=[1, 1, 1], channel_order='bgr', style=None)
    state = torchvision.models.resnet18().state_dict()
    state = {f'backbone.{n}': value for n, value in state.items() if n[:2] != 'fc'}
    torch.save({'state_dict': state, 'meta': {'input_format': input_format}}, tmp_path / 'a.pth')
    out = run(tmp_path / 'a.pth', tmp_path / 'b.pth', '--to', 'timm')
    assert 'backbone.conv1 is adapted to torchvision' in out
    assert 'The file is for RGB images with mean=[3, 2, 1]' in out
    assert 'adapted' not in run(tmp_path / 'a.pth', tmp_path / 'c.pth', '--to', 'mmdet')


def test_an_existing_file_is_kept_unless_forced(command, run, src, tmp_path):
    dst = tmp_path / 'out.pth'
    dst.write_text('precious')
    done = command('convert', src, dst, '--to', 'timm')
    assert (done.status, done.err) == (1, f'error: {dst} exists; pass --force to replace it\n')
    assert dst.read_text() == 'precious'
    run(src, dst, '--to', 'timm', '--force')
    assert 'conv1.weight' in read_checkpoint(dst)


def broken(kind, path):
    state = torchvision.models.resnet18().state_dict()
    if kind == 'hostile':
        torch.save({'state_dict': state, 'x': Hostile(path.parent / 'sign')}, path)
    elif kind == 'truncated':
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:100_000])
    elif kind == 'text':
        path.write_text('not a checkpoint')
    elif kind == 'unknown key':
        torch.save(crosscl().state_dict() | {'extra.weight': torch.ones(1)}, path)
    elif kind == 'shape':
        torch.save(state | {'conv1.weight': torch.ones(64, 4, 7, 7)}, path)


@pytest.mark.parametrize(
    'kind, complaint',
    [
        ('missing', 'does not exist'),
        ('hostile', 'holds code (posix.system), which is not run'),
        ('truncated', 'is not a complete checkpoint'),
        ('text', 'is not a complete checkpoint'),
        ('unknown key', '1 unknown name in a checkpoint of CrossCL of mmcrosscl: extra.weight'),
        ('shape', 'backbone.conv1.weight is (64, 4, 7, 7), not (64, 3, 7, 7)'),
    ],
)
def test_invalid_input_prints_one_sentence_and_writes_nothing(command, tmp_path, kind, complaint):
    src = tmp_path / 'src.pth'
    broken(kind, src)
    before = sorted(tmp_path.iterdir())
    done = command('convert', src, tmp_path / 'dst.pth', '--to', 'mmdet')
    assert done.status == 1 and done.err.startswith('error: ')
    assert complaint in done.err and len(done.err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
