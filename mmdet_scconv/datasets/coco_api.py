"""pycocotools' reader over a checked file."""
from collections import Counter

from mmdet.datasets.api_wrappers import COCO

from .coco_json import CocoReader, read_json
from .findings import DataError, Findings
from .image_files import ImageFolder


class CheckedCOCO(COCO):
    """pycocotools' reader over a repaired file; names give the ids.

    Args:
        annotation_file (str | None): The file.
        findings (Findings | None): Takes what is found. Defaults to new ones.
        images (ImageFolder | None): See ``CocoReader``.
    """

    def __init__(self, annotation_file: str | None = None,
                 findings: Findings | None = None,
                 images: ImageFolder | None = None) -> None:
        """
        Raises:
            DataError: If the file cannot be read at all.
        """
        super().__init__()
        if annotation_file is None:
            return
        self.findings = findings or Findings(annotation_file)
        self.dataset = CocoReader(
            read_json(annotation_file), self.findings, images).read()
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def boxes_by_class(self) -> dict[str, int]:
        counts = Counter(ann['category_id'] for ann in
                         self.dataset['annotations'])
        return {c['name']: counts[c['id']]
                for c in self.dataset['categories']}

    def get_cat_ids(self, cat_names: tuple = (), **kwargs) -> list:
        """In the order of the names: MMDetection numbers classes so.

        Raises:
            DataError: If a name is missing.
        """
        if not cat_names:
            return super().get_cat_ids(cat_names, **kwargs)
        ids = {c['name']: c['id'] for c in self.dataset['categories']}
        missing = [name for name in cat_names if name not in ids]
        if missing:
            raise DataError(
                f'has no categories {missing}, which metainfo '
                f'classes={tuple(cat_names)} names; it has {list(ids)}')
        return [ids[name] for name in cat_names]
