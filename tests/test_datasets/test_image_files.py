"""Image files that PIL and OpenCV judge differently."""
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_scconv.datasets.image_files import image_problem, size_of


@pytest.fixture
def large(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((40, 50, 3), np.uint8))
    return str(tmp_path / 'a.png')


# with 2000 pixels: refused by PIL, only warned of, and nothing of both
@pytest.mark.parametrize('limit', [900, 1900, 2000])
def test_an_image_that_is_too_large_for_pil(large, limit, monkeypatch):
    """Its limit is 179 million pixels; OpenCV reads six times as many."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        size = size_of(large)
        assert (size.width, size.height, size.orientation) == (50, 40, 1)
        assert image_problem(large, 50, 40) is None
        assert image_problem(large, 40, 50)[0] == 'warning'
