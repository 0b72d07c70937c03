# Table 2's SCConv-R50. It differs from Table 1's (scconv-s-c-r50) in
# low_squeeze_base alone: each has the value that gives the table's parameter
# count. This is the formula of the paper's text.
_base_ = '../_base_/classifier_cifar100.py'

model = dict(backbone=dict(conv2_cfg=dict(
    type='SCConv', low_squeeze_base='low_channels')))
