_base_ = './wrn28_200e_cifar10.py'

model = dict(backbone=dict(conv2_cfg=dict(type='SlimConv', k='1')))
