# Your own data in COCO format, RTMDet-tiny with SCConv from scratch. Inherit
# from this file and set data_root, classes and image sizes: docs/data.md.
_base_ = [
    '../_base_/models/rtmdet_tiny.py', '../_base_/datasets/coco_format.py',
    '../_base_/scratch_runtime.py'
]

model = dict(
    backbone=dict(
        type='Swapped', module=dict(type='CSPNeXt'), conv=dict(type='SCConv')),
    bbox_head=dict(num_classes=1))

train_pipeline = _base_.train_pipeline
train_pipeline[3].scale = (640, 640)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (640, 640)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=50, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
