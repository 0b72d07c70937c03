# The demo: an SCConv-ResNet from scratch on generated data, sized for 2 CPU
# cores (`make demo`).
_base_ = [
    '../_base_/models/faster-rcnn_scconv-r18_fpn64.py',
    '../_base_/digits_runtime.py'
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
