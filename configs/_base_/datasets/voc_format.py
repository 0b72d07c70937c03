# Your own data in PASCAL VOC format:
#   data_root/JPEGImages/NAME.jpg  Annotations/NAME.xml
#   data_root/ImageSets/Main/{train,val}.txt     one NAME a line
_base_ = './coco_format.py'

data_root = 'data/my_voc/'
dataset = dict(
    type='CheckedXMLDataset',
    data_root=data_root,
    data_prefix=dict(_delete_=True, sub_data_root=''))

# COCO's evaluation needs the boxes as annotated: meta key 'instances'
test_pipeline = _base_.test_pipeline
test_pipeline[3].meta_keys = (*test_pipeline[3].meta_keys, 'instances')
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
