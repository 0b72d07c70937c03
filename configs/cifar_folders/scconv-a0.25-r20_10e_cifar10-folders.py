_base_ = '../_base_/classifier_cifar10-folders.py'

model = dict(backbone=dict(conv2_cfg=dict(type='SCConv', alpha=0.25)))
