# Table 5: MMDetection's stock 1x schedule and pipeline; rows set the backbone.
_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', './scconv_runtime.py'
]

default_hooks = dict(num_classes=dict(type='NumClassCheckHook'))
