"""Pipeline steps for hand-made annotations."""
from mmdet.datasets.transforms import FilterAnnotations
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type


@TRANSFORMS.register_module()
class ClipAndFilterBoxes(FilterAnnotations):
    """FilterAnnotations after clipping the boxes to the image.

    MMDetection's Resize clips after that filter: a box outside the image
    then has no area, and its loss is NaN.
    """

    @autocast_box_type()
    def transform(self, results: dict) -> dict | None:
        results['gt_bboxes'].clip_(results['img_shape'])
        return super().transform(results)
