_base_ = '../_base_/classifier_cifar10.py'

model = dict(backbone=dict(type='CIFARResNeXt', depth=29))
