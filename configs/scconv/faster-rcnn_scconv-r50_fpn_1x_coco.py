_base_ = './faster-rcnn_r50_fpn_1x_coco.py'

# No ImageNet weights of SCConv exist. All but conv2 starts from the dense
# ResNet's weights, so nothing is frozen and BN learns its statistics anew.
model = dict(
    backbone=dict(type='SCConvResNet', frozen_stages=-1, norm_eval=False))
# in training on several GPUs only
sync_bn = 'torch'
