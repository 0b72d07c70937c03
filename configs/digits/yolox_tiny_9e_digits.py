# YOLOX-tiny from scratch on the generated digits, for 2 CPU cores.
_base_ = ['../_base_/models/yolox_tiny.py', '../_base_/digits_runtime.py']

model = dict(bbox_head=dict(num_classes=10))
