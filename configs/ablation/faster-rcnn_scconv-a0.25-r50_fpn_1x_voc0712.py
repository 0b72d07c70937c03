_base_ = '../scconv/faster-rcnn_scconv-r50_fpn_1x_voc0712.py'

model = dict(backbone=dict(conv2_cfg=dict(alpha=0.25)))
