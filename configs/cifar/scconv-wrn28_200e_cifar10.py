_base_ = '../_base_/classifier_cifar10.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='CIFARWideResNet',
        depth=28,
        conv2_cfg=dict(type='SCConv', low_squeeze_base='low_channels')))
