#   data/cifar/cifar-10-batches-py/
_base_ = './classification.py'

dataset = dict(type='CIFAR10', data_root='data/cifar')
train_pipeline = [
    dict(type='RandomPadCrop', size=32, padding=4),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackClsInputs')
]
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    dataset=dict(split='train', pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=128,
    num_workers=2,
    dataset=dict(
        split='test', pipeline=[dict(type='PackClsInputs')], **dataset))
test_dataloader = val_dataloader
