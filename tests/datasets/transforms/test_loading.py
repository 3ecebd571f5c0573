import io

import numpy as np
import pytest
from mmcv.transforms import Compose
from PIL import Image

from mmcrosscl.datasets.transforms import LoadImage
from mmcrosscl.errors import BrokenImageError
from tests.datasets.transforms.images import error, photo


def load(path):
    return LoadImage().transform(dict(img_path=str(path)))


def save(path, image, **options):
    Image.fromarray(image).save(path, **options) if isinstance(image, np.ndarray) else image.save(
        path, **options
    )
    return path


def test_it_gives_rgb_and_shapes(tmp_path):
    expected = photo()
    results = load(save(tmp_path / 'a.png', expected))
    assert np.array_equal(results['img'], expected)
    assert results['img'].dtype == np.uint8 and results['img'].flags.writeable
    assert results['img_shape'] == results['ori_shape'] == (400, 600)


@pytest.mark.parametrize('mode', ['L', 'LA', 'P', 'RGBA', '1', 'CMYK', 'YCbCr'])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    image = Image.fromarray(photo()).convert(mode)
    path = tmp_path / ('a.tif' if mode in ('CMYK', 'YCbCr') else 'a.png')
    results = load(save(path, image))
    assert results['img'].shape == (400, 600, 3)
    assert error(results['img'], image.convert('RGB')) < 1


def test_a_cmyk_jpeg_becomes_rgb(tmp_path):
    image = Image.fromarray(photo()).convert('CMYK')
    results = load(save(tmp_path / 'a.jpg', image, quality=95))
    assert error(results['img'], photo()) < 4


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    for name in ('a.png', 'a.tif'):
        img = load(save(tmp_path / name, grey))['img']
        assert img.shape == (48, 64, 3)
        assert np.abs(img[..., 0] - grey / 257).max() <= 0.5


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.fromarray(photo('chelsea.png'))
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = upright if undo is None else upright.transpose(undo)
    path = save(tmp_path / 'a.jpg', stored, exif=exif, quality=95)
    results = load(path)
    assert results['img_shape'] == (300, 451)
    assert error(results['img'], upright) < 4


def encoded(kind):
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, kind)
    return buffer.getvalue()


BROKEN = {
    'empty.jpg': b'',
    'text.jpg': b'this is not an image\n' * 40,
    'cut.jpg': encoded('JPEG')[:-4000],
    'half.jpg': encoded('JPEG')[: len(encoded('JPEG')) // 2],
    'header.jpg': encoded('JPEG')[:200],
    'cut.png': encoded('PNG')[:-4000],
    'cut.webp': encoded('WEBP')[:-4000],
    'cut.bmp': encoded('BMP')[:-4000],
    'flipped.png': encoded('PNG')[:5000] + b'\0' * 500 + encoded('PNG')[5500:],
}


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_file_is_named_with_the_reason(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(BrokenImageError) as caught:
        load(path)
    assert caught.value.path == str(path) and caught.value.reason
    assert str(caught.value).startswith(f'cannot read image {path}: ')


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BrokenImageError, match='gone.jpg: FileNotFoundError'):
        load(tmp_path / 'gone.jpg')


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / 'a.png', photo())
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with pytest.raises(BrokenImageError, match='decompression bomb'):
        load(path)


def test_it_stands_alone_in_another_pipeline(tmp_path):
    from mmpretrain.registry import TRANSFORMS

    path = save(tmp_path / 'a.png', photo())
    pipeline = Compose(
        [
            TRANSFORMS.build(dict(type='mmcrosscl.LoadImage')),
            TRANSFORMS.build(dict(type='mmpretrain.CenterCrop', crop_size=64)),
        ]
    )
    assert pipeline(dict(img_path=str(path)))['img'].shape == (64, 64, 3)
