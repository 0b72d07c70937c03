_base_ = './d121_200e_cifar10.py'

model = dict(backbone=dict(conv2_cfg=dict(type='TiedConv')))
