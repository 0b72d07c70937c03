_base_ = '../_base_/classifier_cifar100.py'

model = dict(
    backbone=dict(
        type='CIFARResNeXt',
        depth=29,
        conv2_cfg=dict(type='GhostModule')))
