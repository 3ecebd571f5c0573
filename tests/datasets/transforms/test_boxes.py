import numpy as np
import pytest

from mmcrosscl.datasets.transforms import BoxPairs, LoadImage, TwoCrops


def scene(box, size=(120, 90)):
    """Return a black image with a white box."""
    image = np.zeros((*size[::-1], 3), np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 255
    return image


@pytest.mark.parametrize('flip', [0, 1])
def test_boxes_enclose_the_same_pixels_in_both_views(flip):
    np.random.seed(0)
    box = (40, 30, 70, 60)
    paired = 0
    for _ in range(20):
        results = dict(img=scene(box), ori_shape=(90, 120), boxes=np.array([box], float))
        crop = TwoCrops(scale=96, crop_ratio_range=(0.5, 1), flip_prob=flip)
        results = BoxPairs().transform(crop.transform(results))
        if not results['paired'][0]:
            continue
        paired += 1
        for view, name in zip(results['img'], ('query_regions', 'key_regions')):
            rows, columns = np.nonzero(view[..., 0] > 127)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert results[name][0] == pytest.approx(found, abs=1)
    assert paired > 5


def test_a_box_outside_of_a_view_is_not_paired():
    results = dict(
        boxes=np.array([[0, 0, 10, 10], [50, 50, 60, 60.0]]),
        crops=np.array([[0, 0, 100, 100], [20, 20, 80, 80.0]]),
        flip=False,
        img_shape=(64, 64),
        ori_shape=(100, 100),
        loaded_shape=(100, 100),
    )
    assert BoxPairs().transform(results)['paired'].tolist() == [False, True]


def test_boxes_follow_an_image_that_was_decoded_at_a_smaller_size(tmp_path):
    from PIL import Image

    box = (160, 80, 320, 240)
    Image.fromarray(scene(box, (640, 480))).save(tmp_path / 'a.jpg')
    results = dict(img_path=str(tmp_path / 'a.jpg'), boxes=np.array([box], float))
    results = LoadImage(min_size=100).transform(results)
    assert results['img'].shape[0] < 480
    results = TwoCrops(scale=96, crop_ratio_range=(1, 1), aspect_ratio_range=(1.3, 1.4)).transform(
        results
    )
    results = BoxPairs().transform(results)
    rows, columns = np.nonzero(results['img'][0][..., 0] > 127)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert results['query_regions'][0] == pytest.approx(found, abs=2)


def test_an_image_without_boxes_has_no_regions():
    results = dict(img=scene((0, 0, 5, 5)), ori_shape=(90, 120), boxes=np.zeros((0, 4)))
    results = BoxPairs().transform(TwoCrops(scale=32).transform(results))
    assert results['query_regions'].shape == (0, 4) and results['paired'].shape == (0,)
