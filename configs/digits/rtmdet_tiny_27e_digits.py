# RTMDet-tiny from scratch on the generated digits, for 2 CPU cores. It learns
# the classes late: after 9 epochs, as long as the others take, hardly any.
_base_ = ['../_base_/models/rtmdet_tiny.py', '../_base_/digits_runtime.py']

model = dict(bbox_head=dict(num_classes=10))
train_cfg = dict(max_epochs=27, val_interval=27)
