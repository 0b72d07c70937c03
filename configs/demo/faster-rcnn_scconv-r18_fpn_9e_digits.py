# The embedded default: an SCConv-ResNet from scratch on generated data, sized
# for 2 CPU cores (`make demo`).
_base_ = [
    '../_base_/models/faster-rcnn_scconv-r18_fpn64.py',
    '../_base_/datasets/digits.py', '../_base_/schedules/schedule_scratch.py',
    'mmdet::_base_/default_runtime.py', '../_base_/scconv_runtime.py'
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))

train_cfg = dict(max_epochs=9, val_interval=9)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=4)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='ChannelsLastHook')  # faster on CPUs
]
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(max_keep_ckpts=2),
    num_classes=dict(type='CheckClassesHook'))
