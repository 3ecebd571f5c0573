import errno
import io
import os

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.fileio import LocalBackend, backends
from PIL import Image

from mmcrosscl.datasets.transforms import LoadImage, decode_image, loading, resized_crop
from mmcrosscl.errors import BrokenImageError, InputError, RunError
from tests.datasets.transforms.images import error, photo


def load(path):
    return LoadImage().transform(dict(img_path=str(path)))


def save(path, image, **options):
    Image.fromarray(image).save(path, **options) if isinstance(image, np.ndarray) else image.save(
        path, **options
    )
    return path


def test_the_results_are_rgb_pixels_and_shapes(tmp_path):
    expected = photo()
    results = load(save(tmp_path / 'a.png', expected))
    assert np.array_equal(results['img'], expected)
    assert results['img'].dtype == np.uint8 and results['img'].flags.writeable
    assert results['img_shape'] == results['ori_shape'] == (400, 600)


@pytest.mark.parametrize('mode', ['L', 'LA', 'P', 'RGBA', '1', 'CMYK', 'YCbCr'])
def test_every_color_mode_is_converted_to_rgb(tmp_path, mode):
    image = Image.fromarray(photo()).convert(mode)
    path = tmp_path / ('a.tif' if mode in ('CMYK', 'YCbCr') else 'a.png')
    results = load(save(path, image))
    assert results['img'].shape == (400, 600, 3)
    assert error(results['img'], image.convert('RGB')) < 1


def test_a_cmyk_jpeg_is_converted_to_rgb(tmp_path):
    image = Image.fromarray(photo()).convert('CMYK')
    results = load(save(tmp_path / 'a.jpg', image, quality=95))
    assert error(results['img'], photo()) < 4


def test_16_bit_levels_are_scaled_and_not_clipped(tmp_path):
    gray = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    for name in ('a.png', 'a.tif'):
        img = load(save(tmp_path / name, gray))['img']
        assert img.shape == (48, 64, 3)
        assert np.abs(img[..., 0] - gray / 257).max() <= 0.5


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ([0, 1, 4], [0, 64, 255]),
        ([2, 5, np.nan], [102, 255, 0]),
        ([-25, -10, -5, np.inf], [0, 191, 255, 0]),
        ([np.nan, np.nan, np.nan], [0, 0, 0]),
    ],
)
def test_floating_point_images_are_scaled(tmp_path, values, expected):
    img = load(save(tmp_path / 'a.tif', np.array([values], np.float32)))['img']
    assert img[0, :, 0].tolist() == expected


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.tif'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation, name):
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
    path = save(tmp_path / name, stored, exif=exif, quality=95)
    results = load(path)
    assert results['img_shape'] == results['ori_shape'] == (300, 451)
    assert error(results['img'], upright) < 4


def encoded(kind, name='coffee.png', mode='RGB', **options):
    buffer = io.BytesIO()
    Image.fromarray(photo(name)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize('name', ['coffee.png', 'chelsea.png', 'retina.jpg'])
@pytest.mark.parametrize(
    'options',
    [dict(), dict(progressive=True), dict(subsampling=0), dict(quality=30), dict(mode='L')],
)
def test_a_jpeg_is_decoded_as_by_pillow(name, options):
    data = encoded('JPEG', name, **options)
    reference = Image.open(io.BytesIO(data)).convert('RGB')
    actual, shape = decode_image(data)
    assert np.array_equal(actual, reference) and shape == reference.size[::-1]


def test_damage_that_pillow_tolerates_is_tolerated():
    data = encoded('JPEG')
    data = data[:20000] + bytes(200) + data[20200:]
    reference = Image.open(io.BytesIO(data)).convert('RGB')
    assert np.array_equal(decode_image(data)[0], reference)


@pytest.mark.parametrize('orientation', [1, 3, 6])
@pytest.mark.parametrize(
    'min_size, reduction', [(None, 1), (500, 1), (246, 1), (244, 2), (123, 2), (122, 4), (30, 8)]
)
def test_large_jpegs_are_reduced_as_far_as_min_size_allows(min_size, reduction, orientation):
    """√(H·W) of the image is √(400 · 600) = 489.9."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded('JPEG', quality=95, exif=exif)
    img, shape = decode_image(data, min_size)
    turned = orientation == 6
    assert shape == ((600, 400) if turned else (400, 600))
    assert img.shape[:2] == tuple(side // reduction for side in shape)
    full = Image.fromarray(decode_image(data)[0])
    # a reduced JPEG is close to averages over blocks of pixels
    assert error(img, full.reduce(reduction)) < 1.5


def test_views_of_a_reduced_image_match_those_of_the_full_image():
    data = encoded('JPEG', 'retina.jpg', quality=95)  # 1411 × 1411
    full, reduced = decode_image(data)[0], decode_image(data, min_size=700)[0]
    assert full.shape[0] == 1411 and reduced.shape[0] == 706
    view = resized_crop(full, (200, 300, 800, 900), 224)
    assert error(view, resized_crop(reduced, (100, 150, 400, 450), 224)) < 1.5


def test_only_jpegs_are_reduced():
    assert decode_image(encoded('PNG'), 30)[0].shape == (400, 600, 3)


def test_a_bad_min_size_is_named():
    with pytest.raises(InputError, match='min_size is 0'):
        LoadImage(min_size=0)


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


@pytest.fixture
def fail(monkeypatch):
    """Return a function that lets the next reads fail, and the list of the pauses after them."""
    pauses, read = [], loading.fileio.get
    monkeypatch.setattr(loading.time, 'sleep', pauses.append)

    def fail(code, times):
        def get(path, **settings):
            if len(pauses) < times:
                raise OSError(code, os.strerror(code), path)
            return read(path, **settings)

        monkeypatch.setattr(loading.fileio, 'get', get)
        return pauses

    return fail


def test_a_short_failure_of_the_storage_is_retried_with_growing_pauses(tmp_path, fail):
    path = save(tmp_path / 'a.png', photo())
    pauses = fail(errno.ESTALE, 3)
    assert np.array_equal(load(path)['img'], photo())
    assert len(pauses) == 3 and pauses[0] < pauses[1] < pauses[2]


@pytest.mark.parametrize(
    'name', ['EIO', 'ESTALE', 'ENOTCONN', 'EHOSTDOWN', 'ETIMEDOUT', 'ECONNRESET', 'EMFILE']
)
def test_a_failure_of_the_storage_is_no_broken_image(tmp_path, fail, name):
    path = save(tmp_path / 'a.png', photo())
    code = getattr(errno, name)
    pauses = fail(code, 100)
    message = f'cannot read {path}: {os.strerror(code)} .4 attempts.; fix .* rerun with --resume$'
    with pytest.raises(RunError, match=message):
        load(path)
    assert len(pauses) == 3


@pytest.mark.parametrize('name', ['ENOENT', 'EACCES', 'EISDIR'])
def test_an_error_of_one_file_is_not_retried(tmp_path, fail, name):
    path = save(tmp_path / 'a.png', photo())
    pauses = fail(getattr(errno, name), 1)
    with pytest.raises(BrokenImageError):
        load(path)
    assert not pauses


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / 'a.png', photo())
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with pytest.raises(BrokenImageError, match='decompression bomb'):
        load(path)


def test_the_transform_works_in_another_pipeline(tmp_path):
    from mmpretrain.registry import TRANSFORMS

    path = save(tmp_path / 'a.png', photo())
    pipeline = Compose(
        [
            TRANSFORMS.build(dict(type='mmcrosscl.LoadImage')),
            TRANSFORMS.build(dict(type='mmpretrain.CenterCrop', crop_size=64)),
        ]
    )
    assert pipeline(dict(img_path=str(path)))['img'].shape == (64, 64, 3)


def test_a_file_backend_of_mmengine_reads_the_image(tmp_path):
    @backends.register_backend('test_archive', force=True)
    class Archive(LocalBackend):
        """Reads `KEY` from FOLDER/KEY.png; a key is not the path of a file."""

        def __init__(self, folder):
            self.folder = folder

        def get(self, filepath):
            return super().get(f'{self.folder}/{filepath}.png')

    save(tmp_path / 'key.png', photo())
    settings = dict(backend='test_archive', folder=str(tmp_path))
    transform = LoadImage(backend_args=settings)
    assert np.array_equal(transform.transform(dict(img_path='key'))['img'], photo())
    # MMEngine must not change the settings of a config
    assert settings == dict(backend='test_archive', folder=str(tmp_path))
    assert 'test_archive' in repr(transform)
    with pytest.raises(BrokenImageError, match='gone'):
        transform.transform(dict(img_path='gone'))
