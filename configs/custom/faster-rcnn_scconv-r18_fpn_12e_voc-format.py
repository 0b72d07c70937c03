# Your own data in VOC format, a small model from scratch. Inherit from this
# file and set data_root, classes and image sizes: docs/data.md.
_base_ = [
    '../_base_/models/faster-rcnn_scconv-r18_fpn64.py',
    '../_base_/datasets/voc_format.py', '../_base_/scratch_runtime.py'
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
