# Table 2's SCConv-R50. Its parameter count asks for low_squeeze_base=
# 'low_channels', the formula of the paper's text.
_base_ = '../_base_/classifier_cifar10.py'

model = dict(backbone=dict(conv2_cfg=dict(
    type='SCConv', low_squeeze_base='low_channels')))
