# Table 2 on CIFAR-10: data, schedule and the classifier; rows set the
# backbone. The paper's schedule is not known. This is a usual one (that of
# wide ResNets, which ResNet-50 is on CIFAR): 128 images a step on one GPU, 200
# epochs.
_base_ = [
    './models/classifier.py', './datasets/cifar10.py',
    './schedules/schedule_sgd.py', './classification_runtime.py'
]

model = dict(
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255]),
    backbone=dict(type='CIFARResNet', depth=50, norm_eval=False),
    num_classes=10)

train_cfg = dict(max_epochs=200)
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4, nesterov=True))
param_scheduler = dict(milestones=[60, 120, 160], gamma=0.2)
auto_scale_lr = dict(base_batch_size=128)
