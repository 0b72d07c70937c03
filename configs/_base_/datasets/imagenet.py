#   data/imagenet/{train,val}/CLASS/NAME.JPEG
_base_ = './classification.py'

dataset = dict(
    type='ImageFolder', data_root='data/imagenet/', num_classes=1000)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', size=224),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackClsInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeShortestEdge', scale=256),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackClsInputs')
]
train_dataloader = dict(
    batch_size=32,
    num_workers=5,
    dataset=dict(
        data_prefix=dict(img='train'), pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=32,
    num_workers=5,
    dataset=dict(
        data_prefix=dict(img='val'), pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
