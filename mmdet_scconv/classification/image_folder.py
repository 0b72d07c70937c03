"""A classification data set of one folder a class, as ImageNet has it."""
import os
import os.path as osp

from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset

from ..datasets.image_files import SUFFIXES


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """Images in ``data_root/data_prefix['img']/CLASS/``, also below.

    Labels count the class folders in sorted order, or follow ``classes`` in
    ``metainfo``. Hidden files and folders (``._x.jpg``,
    ``.ipynb_checkpoints``) are left out.

    Args:
        num_classes (int): The required number of class folders: a missing one
            would shift the labels. Defaults to any number.
        data_prefix (dict): ``img`` is the folder of the class folders.
            Defaults to ``data_root`` itself.
        **kwargs: Of ``mmengine.dataset.BaseDataset``: ``data_root``,
            ``pipeline``, ``metainfo``, ...

    An entry has ``img_path`` and ``gt_label``.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If class folders are missing, unknown or without images.
    """

    def __init__(self,
                 num_classes: int | None = None,
                 data_prefix: dict | None = None,
                 **kwargs) -> None:
        self.num_classes = num_classes
        super().__init__(data_prefix=data_prefix or dict(img=''), **kwargs)

    def load_data_list(self) -> list[dict]:
        root = self.data_prefix['img']
        if not osp.isdir(root):
            raise FileNotFoundError(
                f'{root}: no such folder; images are expected in '
                f'{osp.join(root, "CLASS", "NAME.jpg")}')
        folders = sorted(e.name for e in os.scandir(root)
                         if e.is_dir() and not e.name.startswith('.'))
        classes = self._metainfo.setdefault('classes', tuple(folders))
        if set(classes) != set(folders):
            raise ValueError(
                f'{root}: class folders and classes differ: missing '
                f'{sorted(set(classes) - set(folders))}, unknown '
                f'{sorted(set(folders) - set(classes))}')
        if self.num_classes not in (None, len(classes)):
            raise ValueError(f'{root}: {len(classes)} class folders, '
                             f'num_classes={self.num_classes}')
        data_list = []
        for label, name in enumerate(classes):
            paths = [
                osp.join(folder, file)
                for folder, _, files in os.walk(osp.join(root, name))
                for file in files if file.lower().endswith(SUFFIXES)
                and not file.startswith('.')
            ]
            if not paths:
                raise ValueError(f'{osp.join(root, name)}: no images '
                                 f'({", ".join(SUFFIXES)})')
            data_list += [
                dict(img_path=path, gt_label=label) for path in sorted(paths)
            ]
        return data_list
