# RTMDet-tiny from scratch on the generated digits, for 2 CPU cores.
_base_ = [
    '../_base_/models/rtmdet_tiny.py', '../_base_/datasets/digits.py',
    '../_base_/schedules/schedule_scratch.py',
    'mmdet::_base_/default_runtime.py', '../_base_/scconv_runtime.py'
]

model = dict(bbox_head=dict(num_classes=10))

train_cfg = dict(max_epochs=9, val_interval=9)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(max_keep_ckpts=2),
    num_classes=dict(type='CheckClassesHook'))
