# Table 2 on CIFAR-10: data, schedule and the classifier; rows set the
# backbone.
#   data/cifar/cifar-10-batches-py/
# The paper's schedule is not known. This is a usual one (that of wide ResNets,
# which ResNet-50 is on CIFAR): 128 images a step on one GPU, 200 epochs.
_base_ = './classification_runtime.py'

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
        bgr_to_rgb=True),
    backbone=dict(type='CIFARResNet', depth=50, norm_eval=False),
    num_classes=10)

dataset = dict(type='CIFAR10', data_root='data/cifar')
train_pipeline = [
    dict(type='RandomPadCrop', size=32, padding=4),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackClsInputs')
]
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        split='test',
        test_mode=True,
        pipeline=[dict(type='PackClsInputs')],
        **dataset))
test_dataloader = val_dataloader

val_evaluator = dict(type='TopKAccuracy', topk=(1, 5))
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True))
param_scheduler = dict(
    type='MultiStepLR', by_epoch=True, milestones=[60, 120, 160], gamma=0.2)
auto_scale_lr = dict(enable=False, base_batch_size=128)
