"""Image files by the names that annotations give, and their real sizes."""
import io
import os
import os.path as osp
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm',
            '.pgm')
EXIF_ORIENTATION = 0x0112
MISSING = 'is missing'
OWN_SIZE = "the image's own size counts"


class ImageFolder:
    """The images below a folder; each folder is listed once.

    Args:
        root (str): The folder that names are relative to. Storage other than a
            local folder is not searched: names are used as they are.
        ignore_orientation (bool): Whether images are read without their EXIF
            orientation. Defaults to False.
    """

    def __init__(self, root: str, ignore_orientation: bool = False) -> None:
        self.root = root
        self.ignore_orientation = ignore_orientation
        self.listed = {}

    @property
    def is_empty(self) -> bool:
        """Whether the folder holds no files."""
        return not self.names('')[0]

    def path(self, name: str) -> str:
        return osp.join(self.root, name)

    def size(self, name: str) -> 'ImageSize | None':
        """Size of an image as it is read; None if it is not there."""
        return size_of(self.path(name), self.ignore_orientation)

    def names(self, folder: str) -> tuple[set, dict]:
        """Names in a folder, and the same by their lower case, without those
        that differ only in case."""
        if folder not in self.listed:
            try:
                names = set(os.listdir(osp.join(self.root, folder) or '.'))
            except OSError:
                names = set()
            by_case = {}
            for name in names:
                key = name.casefold()
                by_case[key] = None if key in by_case else name
            self.listed[folder] = names, by_case
        return self.listed[folder]

    def find(self, name: str) -> str | None:
        """A file by its name relative to the root, in any case; None if there
        is none."""
        folder, _, base = name.rpartition('/')
        names, by_case = self.names(folder)
        if base in names:
            return name
        found = by_case.get(base.casefold())
        if found is not None:
            return osp.join(folder, found)
        if folder and not names:  # the folder in another case?
            other = self.find(folder)
            if other not in (None, folder):
                return self.find(osp.join(other, base))
        return None

    def find_any(self, names: list[str]) -> str | None:
        """The first of these names that is there."""
        for name in names:
            found = self.find(name)
            if found is not None:
                return found
        return None


def other_names(name: str) -> list[str]:
    """Possible names of an image that an annotation names: the name itself,
    with a Windows path converted, and without the folders of the machine that
    it was labelled on."""
    parts = [part for part in name.replace('\\', '/').split('/')
             if part not in ('', '.', '..')]
    return list(dict.fromkeys(
        [name, *('/'.join(parts[i:]) for i in range(len(parts)))]))


@dataclass(frozen=True)
class ImageSize:
    """Size of an image as OpenCV decodes it; ``stored`` (width, height) is
    without its EXIF ``orientation`` (1: none)."""

    width: int
    height: int
    stored: tuple[int, int]
    orientation: int

    @property
    def is_transposed(self) -> bool:
        return self.orientation >= 5


def decode(content: bytes, ignore_orientation: bool = False
           ) -> np.ndarray | None:
    """(H, W, 3) uint8, BGR; None if OpenCV cannot."""
    flags = cv2.IMREAD_COLOR
    if ignore_orientation:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)


@contextmanager
def open_image(file) -> Iterator[Image.Image]:
    """Open an image with PIL, without its warning about large ones.

    Raises:
        Image.DecompressionBombError: Above 179 million pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)
        with Image.open(file) as image:
            yield image


def size_of(path: str, ignore_orientation: bool = False) -> ImageSize | None:
    """The size of an image as OpenCV decodes it, None if it cannot be read.

    Pixels are decoded only if there is an orientation: OpenCV applies it to
    some formats (JPEG and PNG, not WebP).
    """
    orientation = None
    try:
        with open(path, 'rb') as f:
            content = f.read()
        with open_image(io.BytesIO(content)) as image:
            size = image.size
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Image.DecompressionBombError:
        pass  # larger than PIL reads, not than OpenCV does
    except Exception:  # a damaged image can raise anything
        return None
    if orientation == 1:
        return ImageSize(*size, size, 1)
    stored, shown = decode(content, True), decode(content, ignore_orientation)
    if stored is None or shown is None:
        return None
    turned = stored.shape != shown.shape or (stored != shown).any()
    return ImageSize(shown.shape[1], shown.shape[0],
                     (stored.shape[1], stored.shape[0]),
                     (orientation or 6) if turned else 1)


def size_problem(size: ImageSize, width: float, height: float
                 ) -> tuple[str, str] | None:
    """Verdict and text if an image's size is not as annotated, None if it is.
    """
    if (size.width, size.height) == (width, height):
        return None
    if size.is_transposed and size.stored == (width, height):
        return 'refused', (
            f'is annotated as {width:g} x {height:g}, and {size.width} x '
            f'{size.height} when its EXIF orientation {size.orientation} is '
            'applied, as it is: its boxes would be wrong. Set '
            "color_type='color_ignore_orientation' for LoadImageFromFile in "
            'both pipelines, or rewrite the image upright')
    return 'warning', (
        f'has {size.width} x {size.height} pixels, and is annotated as '
        f'{width:g} x {height:g}: {OWN_SIZE}')


def image_problem(path: str, width: int, height: int,
                  ignore_orientation: bool = False) -> tuple[str, str] | None:
    """Verdict and text of an image file's problem, None if it has none.

    Args:
        path (str): The file.
        width (int): As annotated, in pixels.
        height (int): Likewise.
        ignore_orientation (bool): Whether the pipeline reads it so.
    """
    if not osp.isfile(path):
        return 'refused', MISSING
    if not osp.getsize(path):
        return 'refused', 'is empty'
    with open(path, 'rb') as f:
        shown = decode(f.read(), ignore_orientation)
    deep = False
    try:
        with open_image(path) as image:
            deep = image.mode.startswith('I')
            image.load()  # a truncated one opens, and OpenCV fills the rest
    except Image.DecompressionBombError:
        pass  # larger than PIL reads
    except Exception as error:  # a damaged image can raise anything
        return ('refused' if shown is None else 'warning',
                f'cannot be read: {error}')
    if shown is None:
        return 'refused', 'cannot be read by OpenCV'
    size = size_of(path, ignore_orientation)
    problem = size_problem(size, width, height)
    if problem:
        return problem
    if size.orientation != 1 and size.stored == (width, height):
        return 'warning', (
            f'is turned as its EXIF orientation {size.orientation} says, and '
            'the size does not tell whether its boxes are: look at them with '
            'tools/analysis_tools/browse_dataset.py')
    if deep:
        return 'warning', ('has 16 bits a channel, of which the upper 8 are '
                          'used')
    return None
