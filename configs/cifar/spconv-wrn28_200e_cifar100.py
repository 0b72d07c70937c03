_base_ = './wrn28_200e_cifar100.py'

model = dict(backbone=dict(conv2_cfg=dict(type='SPConv')))
