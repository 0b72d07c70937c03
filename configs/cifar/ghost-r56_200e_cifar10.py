_base_ = '../_base_/classifier_cifar10.py'

model = dict(backbone=dict(depth=56, conv2_cfg=dict(type='GhostModule')))
