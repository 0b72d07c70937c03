# Your own data in COCO format, a small model from scratch. Inherit from this
# file and set data_root, classes and image sizes: docs/data.md.
_base_ = [
    '../_base_/models/faster-rcnn_scconv-r18_fpn64.py',
    '../_base_/datasets/coco_format.py',
    '../_base_/schedules/schedule_scratch.py',
    'mmdet::_base_/default_runtime.py', '../_base_/scconv_runtime.py'
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=2),
    num_classes=dict(type='CheckClassesHook'))
