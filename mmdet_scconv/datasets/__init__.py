from .digits import make_digits
from .voc_to_coco import voc_to_coco

__all__ = ['make_digits', 'voc_to_coco']
