"""The images that a command line names, and the names of their pictures."""
import os.path as osp
from collections import defaultdict
from collections.abc import Sequence

from mmengine.utils import scandir

from ..datasets.image_files import SUFFIXES
from ..errors import UserError


def picture_names(images: Sequence[str]) -> list[str]:
    """A file name for the picture of each image: the image's own. If several
    images have the same name, the folders in which they differ precede it."""
    images = [osp.abspath(path) for path in images]
    same = defaultdict(set)
    for path in images:
        same[osp.basename(path).lower()].add(path)
    names = []
    for path in images:
        others = same[osp.basename(path).lower()]
        names.append(
            osp.basename(path) if len(others) == 1 else osp.relpath(
                path, osp.commonpath([osp.dirname(p) for p in others])))
    return names


def find_images(inputs: Sequence[str]) -> list[str]:
    """All images among files and folders (not their subfolders).

    Raises:
        UserError: If one of them does not exist, or a folder has no
            images.
    """
    images = []
    for path in inputs:
        if osp.isdir(path):
            names = sorted(
                scandir(path, suffix=SUFFIXES, case_sensitive=False))
            if not names:
                raise UserError(f'no images in the folder {path}')
            images += [osp.join(path, name) for name in names]
        elif osp.isfile(path):
            images.append(path)
        else:
            raise UserError(f'no such file or folder: {path}')
    return images
