# The embedded default: an SCConv-ResNet from scratch on generated data, sized
# for 2 CPU cores (`make demo`).
_base_ = [
    '../_base_/models/faster-rcnn_scconv-r18_fpn64.py',
    '../_base_/datasets/digits.py', '../_base_/schedules/schedule_scratch.py',
    'mmdet::_base_/default_runtime.py', '../_base_/scconv_runtime.py'
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))

max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True)
]
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(max_keep_ckpts=2))
