_base_ = './faster-rcnn_r50-scratch_fpn_6x_coco.py'

model = dict(backbone=dict(type='SCConvResNet'))
