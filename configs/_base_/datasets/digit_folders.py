# Handwritten digits, one folder a class:
# tools/dataset_converters/make_digit_folders.py
dataset = dict(
    type='ImageFolder',
    data_root='data/digit_folders/',
    metainfo=dict(
        classes=('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven',
                 'eight', 'nine')))

# no flip: a mirrored digit is another sign
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', size=32, area=(0.6, 1.)),
    dict(type='RandomPadCrop', size=32, padding=4),
    dict(type='PackClsInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32)),
    dict(type='PackClsInputs')
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img='train'), pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img='val'),
        test_mode=True,
        pipeline=test_pipeline,
        **dataset))
test_dataloader = val_dataloader

val_evaluator = dict(type='TopKAccuracy', topk=1)
test_evaluator = val_evaluator
