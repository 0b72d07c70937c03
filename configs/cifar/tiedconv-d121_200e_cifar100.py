_base_ = '../_base_/classifier_cifar100.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='CIFARDenseNet',
        depth=121,
        conv2_cfg=dict(type='TiedConv')))
