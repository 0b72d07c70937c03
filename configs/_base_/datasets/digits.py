# The generated digits data set: tools/dataset_converters/make_digits.py
_base_ = './coco_format.py'

data_root = 'data/digits/'
dataset = dict(
    metainfo=dict(
        classes=('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven',
                 'eight', 'nine')),
    data_root=data_root,
    data_prefix=dict(img='JPEGImages/'))
val_ann_file = 'annotations/instances_val.json'

# The images have the size of use, and a mirrored digit is another sign: no
# resizing and no flip in training.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs')
]
# inference on one's own pictures: resize them to the size of use
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (128, 128)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        ann_file='annotations/instances_train.json',
        pipeline=train_pipeline,
        **dataset))
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(ann_file=val_ann_file, pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + val_ann_file)
test_evaluator = val_evaluator
