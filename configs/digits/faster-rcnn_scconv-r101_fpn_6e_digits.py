_base_ = '../_base_/faster-rcnn_fpn_6e_digits.py'

model = dict(backbone=dict(type='SCConvResNet', depth=101))
