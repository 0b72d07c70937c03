_base_ = '../_base_/classifier_cifar100.py'

model = dict(backbone=dict(type='CIFAROctResNet'))
