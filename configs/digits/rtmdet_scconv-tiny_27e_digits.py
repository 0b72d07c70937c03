_base_ = './rtmdet_tiny_27e_digits.py'

model = dict(
    backbone=dict(
        type='Swapped', module=dict(type='CSPNeXt'), conv=dict(type='SCConv')))
