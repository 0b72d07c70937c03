# What the rows with swapped convolutions share: no ImageNet weights of these
# exist. All but conv2 starts from the dense ResNet's weights, so nothing is
# frozen, and BN is trained.
_base_ = './faster-rcnn_fpn_1x_voc0712.py'

model = dict(backbone=dict(frozen_stages=-1, norm_eval=False))
# in training on several GPUs only
sync_bn = 'torch'
