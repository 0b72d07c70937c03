from .checked_coco import CheckedCocoDataset
from .checked_voc import CheckedVOCDataset, CheckedXMLDataset
from .digits import make_digits
from .metrics import CheckedCocoMetric, CheckedVOCMetric
from .transforms import ClipAndFilterBoxes
from .voc_to_coco import voc_to_coco

__all__ = [
    'CheckedCocoDataset', 'CheckedCocoMetric', 'CheckedVOCDataset',
    'CheckedVOCMetric', 'CheckedXMLDataset', 'ClipAndFilterBoxes',
    'make_digits', 'voc_to_coco'
]
