_base_ = '../_base_/faster-rcnn_fpn_1x_coco.py'

# A URL, unlike torchvision://resnet50, needs no torchvision. Without network:
# --cfg-options model.backbone.init_cfg.checkpoint=FILE
model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='https://download.pytorch.org/models/'
            'resnet50-0676ba61.pth')))
