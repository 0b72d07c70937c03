# coco_format.py at 640x640 pixels, for RTMDet and YOLOX
_base_ = './coco_format.py'

train_pipeline = _base_.train_pipeline
train_pipeline[3].scale = (640, 640)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (640, 640)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
