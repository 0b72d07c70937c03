# Table 1's SRU and CRU. It differs from Table 2's SCConv-R50 (scconv-r50) in
# low_squeeze_base alone: each has the value that gives the table's parameter
# count. Here it is the default, 'out_channels'.
_base_ = '../_base_/classifier_cifar100.py'

model = dict(backbone=dict(conv2_cfg=dict(type='SCConv', units='S+C')))
