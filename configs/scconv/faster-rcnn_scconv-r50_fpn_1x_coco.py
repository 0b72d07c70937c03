# Differs from the dense row in the backbone alone. Its SCConvs are fitted to
# the dense ones of the checkpoint when the training starts: docs/warm_start.md
_base_ = './faster-rcnn_r50_fpn_1x_coco.py'

model = dict(backbone=dict(type='SCConvResNet'))
