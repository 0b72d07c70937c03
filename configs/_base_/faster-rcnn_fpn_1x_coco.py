# Table 5: MMDetection's stock 1x schedule and pipeline, annotations checked;
# rows set the backbone.
_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    './scconv_runtime.py', './imagenet_weights.py'
]

model = dict(
    backbone=dict(init_cfg=dict(checkpoint={{_base_.imagenet_weights.r50}})))

train_dataloader = dict(dataset=dict(type='CheckedCocoDataset'))
val_dataloader = dict(dataset=dict(type='CheckedCocoDataset'))
test_dataloader = val_dataloader
val_evaluator = dict(type='CheckedCocoMetric')
test_evaluator = val_evaluator

default_hooks = dict(num_classes=dict(type='CheckClassesHook'))
