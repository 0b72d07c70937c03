_base_ = '../_base_/classifier_imagenet.py'

model = dict(backbone=dict(type='VersatileConvResNet'))
