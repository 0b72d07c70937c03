# Figure 4 and Table 1 for a CPU: ResNet-20 on CIFAR-10's images, one folder a
# class. Made for 200 training images a class, and for 36 runs in an hour on
# two cores.
#   data/cifar10_folders/{train,test}/CLASS/NAME.jpg
# The first stage stays dense in all rows: 16 channels do not suffice for all
# split ratios.
_base_ = './classifier_cifar10.py'

model = dict(backbone=dict(depth=20, stages_with_swap=(False, True, True)))

dataset = dict(
    type='ImageFolder', data_root='data/cifar10_folders/', num_classes=10)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        data_prefix=dict(img='train'),
        pipeline=[dict(type='LoadImageFromFile'), *_base_.train_pipeline],
        **dataset))
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        data_prefix=dict(img='test'),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='PackClsInputs')
        ],
        **dataset))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=10, val_interval=10)
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = dict(
    _delete_=True,
    type='CosineAnnealingLR',
    T_max=10,
    convert_to_iter_based=True)
auto_scale_lr = dict(base_batch_size=32)
