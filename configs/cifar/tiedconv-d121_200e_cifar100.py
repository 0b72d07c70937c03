_base_ = './d121_200e_cifar100.py'

model = dict(backbone=dict(conv2_cfg=dict(type='TiedConv')))
