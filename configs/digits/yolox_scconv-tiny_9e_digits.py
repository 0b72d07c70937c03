_base_ = './yolox_tiny_9e_digits.py'

model = dict(
    backbone=dict(
        type='Swapped',
        module=dict(type='CSPDarknet'),
        conv=dict(type='SCConv')))
