import numpy as np
import pytest
import torch

from mmdet_scconv.classification import (
    PackClsInputs,
    RandomPadCrop,
    RandomResizedCrop,
)


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)


def gradient(height, width):
    """Each pixel tells its place."""
    y, x = np.mgrid[:height, :width]
    return np.dstack([y, x, 0 * x]).astype(np.uint8)


def test_parts_are_inside_and_as_large_as_asked():
    transform = RandomResizedCrop(16, area=(0.2, 0.5), aspect_ratio=(0.5, 2))
    parts = np.array([transform.part(100, 140) for _ in range(300)])
    top, left, height, width = parts.T
    assert (parts >= 0).all()
    assert (top + height <= 100).all() and (left + width <= 140).all()
    share = height * width / 14000
    # whole pixels, hence the margin
    assert 0.19 < share.min() < 0.22 and 0.48 < share.max() < 0.51
    ratio = width / height
    assert 0.48 < ratio.min() < 0.6 and 1.7 < ratio.max() < 2.1
    assert len(set(top)) > 50 and len(set(left)) > 50


@pytest.mark.parametrize('shape,expected', [
    ((10, 1000), (0, 493, 10, 13)),
    ((1000, 10), (493, 0, 13, 10)),
    ((1, 1), (0, 0, 1, 1)),
])
def test_the_centre_of_an_image_without_a_valid_part(shape, expected):
    transform = RandomResizedCrop(16, area=(1, 1))
    assert transform.part(*shape) == expected


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_random_resized_crop(backend):
    transform = RandomResizedCrop((24, 16), backend=backend)
    results = transform(dict(img=gradient(60, 90)))
    assert results['img'].shape == (24, 16, 3)
    assert results['img_shape'] == (24, 16)
    # still the same way up, and not mirrored
    assert (np.diff(results['img'][:, 0, 0].astype(int)) >= 0).all()
    assert (np.diff(results['img'][0, :, 1].astype(int)) >= 0).all()


def test_random_pad_crop_is_a_shift():
    image = gradient(32, 32) + 1
    places = set()
    for _ in range(200):
        results = RandomPadCrop(32, padding=4)(dict(img=image.copy()))
        assert results['img'].shape == (32, 32, 3)
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        y, x = (int(v) - 1 for v in results['img'][16, 16, :2])
        top, left = y + 4 - 16, x + 4 - 16
        assert np.array_equal(results['img'],
                              padded[top:top + 32, left:left + 32])
        places.add((top, left))
    assert {0, 8} <= {top for top, _ in places} <= set(range(9))
    assert {0, 8} <= {left for _, left in places} <= set(range(9))


def test_random_pad_crop_of_a_small_image():
    with pytest.raises(ValueError, match=r'padded image has \(18, 18\)'):
        RandomPadCrop(32, padding=4)(dict(img=gradient(10, 10)))


def test_pack():
    packed = PackClsInputs()(
        dict(img=gradient(4, 5), gt_label=3, img_path='a.jpg', unknown=1))
    assert packed['inputs'].shape == (3, 4, 5)
    assert packed['inputs'].dtype == torch.uint8
    assert packed['data_samples'].gt_label == 3
    assert packed['data_samples'].metainfo == dict(img_path='a.jpg')


def test_pack_without_a_label():
    packed = PackClsInputs()(dict(img=gradient(4, 5)))
    assert 'gt_label' not in packed['data_samples']


@pytest.mark.parametrize('build,message', [
    (lambda: RandomResizedCrop(0), 'size=0 is not valid'),
    (lambda: RandomResizedCrop(8, area=(0, 1)), r'area=\(0, 1\)'),
    (lambda: RandomResizedCrop(8, area=(0.5, 2)), 'area='),
    (lambda: RandomResizedCrop(8, aspect_ratio=(2, 1)), 'aspect_ratio='),
    (lambda: RandomPadCrop(8, padding=-1), 'padding=-1'),
])
def test_invalid_options(build, message):
    with pytest.raises(ValueError, match=message):
        build()
