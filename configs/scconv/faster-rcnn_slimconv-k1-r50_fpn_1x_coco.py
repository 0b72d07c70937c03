_base_ = './faster-rcnn_r50_fpn_1x_coco.py'

# k=1 was never published: a reconstruction, see layers/slimconv.py.
model = dict(backbone=dict(type='SlimConvResNet', conv2_cfg=dict(k='1')))
