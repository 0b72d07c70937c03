_base_ = '../_base_/classifier_imagenet.py'
