_base_ = '../_base_/classifier_imagenet.py'

model = dict(backbone=dict(type='SCConvResNet', conv2_cfg=dict(alpha=0.75)))
