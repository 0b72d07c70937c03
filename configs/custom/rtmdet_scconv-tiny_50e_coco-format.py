# Your own data in COCO format, RTMDet-tiny with SCConv from scratch. Inherit
# from this file and set data_root, classes and image sizes: docs/data.md.
_base_ = [
    '../_base_/models/rtmdet_tiny.py', '../_base_/datasets/coco_format_640.py',
    '../_base_/scratch_runtime.py'
]

model = dict(
    backbone=dict(
        type='Swapped', module=dict(type='CSPNeXt'), conv=dict(type='SCConv')),
    bbox_head=dict(num_classes=1))

train_cfg = dict(max_epochs=50, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
