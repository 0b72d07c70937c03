from .checked import CheckedCocoDataset, CheckedXMLDataset
from .digits import make_digits
from .transforms import ClipAndFilterBoxes
from .voc_to_coco import voc_to_coco

__all__ = [
    'CheckedCocoDataset', 'CheckedXMLDataset', 'ClipAndFilterBoxes',
    'make_digits', 'voc_to_coco'
]
