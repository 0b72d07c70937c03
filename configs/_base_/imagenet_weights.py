# Dense ResNets of torchvision. A URL, unlike torchvision://resnet50, needs no
# torchvision. Without network:
# --cfg-options model.backbone.init_cfg.checkpoint=FILE
imagenet_weights = dict(
    r50='https://download.pytorch.org/models/resnet50-0676ba61.pth',
    r101='https://download.pytorch.org/models/resnet101-63fe2227.pth')
