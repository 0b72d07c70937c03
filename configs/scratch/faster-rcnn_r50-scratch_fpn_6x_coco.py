# Without pre-trained weights: MMDetection's schedule from scratch, 73 epochs;
# BN in the backbone (its GN in neck and head stays), trained, nothing frozen.
_base_ = [
    'mmdet::scratch/faster-rcnn_r50-scratch_fpn_gn-all_6x_coco.py',
    '../_base_/scconv_runtime.py'
]

model = dict(
    backbone=dict(
        norm_cfg=dict(_delete_=True, type='BN', requires_grad=True),
        norm_eval=False))

# annotations checked, as in the rows
train_dataloader = dict(dataset=dict(type='CheckedCocoDataset'))
val_dataloader = dict(dataset=dict(type='CheckedCocoDataset'))
test_dataloader = val_dataloader
val_evaluator = dict(type='CheckedCocoMetric')
test_evaluator = val_evaluator
default_hooks = dict(num_classes=dict(type='CheckClassesHook'))

# in training on several GPUs only
sync_bn = 'torch'
