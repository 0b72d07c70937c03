"""A checked data set in COCO's format."""
import os.path as osp

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from .checked import CheckedDataset
from .coco_api import CheckedCOCO
from .image_files import ImageFolder, other_names


@DATASETS.register_module()
class CheckedCocoDataset(CheckedDataset, CocoDataset):
    """CocoDataset with a checked annotation file; ids of classes are looked
    up by name, in any order."""

    @property
    def COCOAPI(self):
        """The reader, with the folder of this data set's images."""
        return self.open_file

    def open_file(self, path: str) -> CheckedCOCO:
        coco = CheckedCOCO(path, self.findings, self.images)
        self.unknown.update({
            name: n for name, n in coco.boxes_by_class().items()
            if n and name not in self.metainfo['classes']
        })
        return coco

    def read_annotations(self) -> list[dict]:
        self.images = ImageFolder(
            self.data_prefix.get('img') or '', self.ignore_orientation)
        return CocoDataset.load_data_list(self)

    def tried(self, info: dict) -> str:
        """Names under which an image was looked for."""
        return ', '.join(other_names(
            info['img_path'][len(osp.join(self.images.root, '')):]))

    def parse_data_info(self, raw_data_info: dict) -> dict:
        image = raw_data_info['raw_img_info']
        name = image['file_name']
        if not self.images.is_empty:
            image['file_name'] = self.images.find(name) or \
                self.images.find_any(other_names(name)) or name
        return super().parse_data_info(raw_data_info)
