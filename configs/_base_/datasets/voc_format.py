# Your own data in PASCAL VOC format:
#   data_root/JPEGImages/NAME.jpg  Annotations/NAME.xml
#   data_root/ImageSets/Main/{train,val}.txt     one NAME a line
_base_ = './coco_format.py'

data_root = 'data/my_voc/'
dataset = dict(
    type='CheckedXMLDataset',
    data_root=data_root,
    data_prefix=dict(_delete_=True, sub_data_root=''))

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    # COCO's evaluation needs the boxes as annotated: meta key 'instances'
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor', 'instances'))
]
train_dataloader = dict(
    dataset=dict(ann_file='ImageSets/Main/train.txt', **dataset))
val_dataloader = dict(
    dataset=dict(
        ann_file='ImageSets/Main/val.txt', pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader

# COCO-style AP, and the VOC mAP (area under the curve, as VOC 2010 and later)
val_evaluator = [
    dict(type='CheckedCocoMetric', metric='bbox'),
    dict(type='CheckedVOCMetric', metric='mAP', eval_mode='area')
]
test_evaluator = val_evaluator
