# Table 4's systems at a size for 2 CPU cores: ResNets of a quarter of the
# width, from scratch on the generated digits. Rows set the backbone.
_base_ = ['./models/faster-rcnn_scconv-r18_fpn64.py', './digits_runtime.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        base_channels=16,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512]),
    roi_head=dict(bbox_head=dict(num_classes=10)))

train_cfg = dict(max_epochs=6, val_interval=6)
