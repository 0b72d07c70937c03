# Pre-training on a CPU: the backbone of the demo detector as a classifier of
# single digits. The detector's config takes its checkpoint by
#   model = dict(backbone=dict(init_cfg=dict(
#       _delete_=True, type='Pretrained', checkpoint=FILE,
#       prefix='backbone.')))
_base_ = [
    '../_base_/models/classifier.py', '../_base_/datasets/digit_folders.py',
    '../_base_/schedules/schedule_scratch.py',
    '../_base_/classification_runtime.py'
]

model = dict(
    backbone=dict(
        type='SCConvResNet', depth=18, norm_eval=False, init_cfg=None),
    num_classes=10,
    label_smoothing=0.1)

train_cfg = dict(max_epochs=10)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(logger=dict(interval=40))
