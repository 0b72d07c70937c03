# Handwritten digits, one folder a class:
# tools/dataset_converters/make_digit_folders.py
_base_ = './classification.py'

dataset = dict(
    type='ImageFolder',
    data_root='data/digit_folders/',
    metainfo=dict(
        classes=('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven',
                 'eight', 'nine')))

# only shifts: a mirrored digit, or half of one, is another sign
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomPadCrop', size=64, padding=6),
    dict(type='PackClsInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackClsInputs')
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        data_prefix=dict(img='train'), pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=64,
    num_workers=1,
    dataset=dict(
        data_prefix=dict(img='val'),
        pipeline=test_pipeline,
        **dataset))
test_dataloader = val_dataloader

val_evaluator = dict(topk=1)
test_evaluator = val_evaluator
