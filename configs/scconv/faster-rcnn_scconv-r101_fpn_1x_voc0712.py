_base_ = './faster-rcnn_r101_fpn_1x_voc0712.py'

model = dict(backbone=dict(type='SCConvResNet'))
