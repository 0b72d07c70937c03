# Table 4's systems at a size for 2 CPU cores: ResNets of a quarter of the
# width, from scratch on the generated digits. Rows set the backbone.
_base_ = [
    './models/faster-rcnn_scconv-r18_fpn64.py', './datasets/digits.py',
    './schedules/schedule_scratch.py', 'mmdet::_base_/default_runtime.py',
    './scconv_runtime.py'
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        base_channels=16,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512]),
    roi_head=dict(bbox_head=dict(num_classes=10)))

train_cfg = dict(max_epochs=6, val_interval=6)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(max_keep_ckpts=2),
    num_classes=dict(type='CheckClassesHook'))
