# MMDetection's RTMDet-tiny with SCConv in place of its backbone's dense 3x3
# without a stride.
_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'

custom_imports = dict(imports=['mmdet_scconv'], allow_failed_imports=False)
custom_hooks = [*_base_.custom_hooks, dict(type='SCConvRuntimeHook')]
default_hooks = dict(num_classes=dict(type='CheckClassesHook'))

# the arguments of CSPNeXt stay where the base has them
model = dict(
    backbone=dict(
        type='Swapped', module=dict(type='CSPNeXt'),
        conv=dict(type='SCConv')))

train_dataloader = dict(dataset=dict(type='CheckedCocoDataset'))
val_dataloader = dict(dataset=dict(type='CheckedCocoDataset'))
test_dataloader = val_dataloader
val_evaluator = dict(type='CheckedCocoMetric')
test_evaluator = val_evaluator
