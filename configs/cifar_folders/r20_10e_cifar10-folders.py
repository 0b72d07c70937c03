_base_ = '../_base_/classifier_cifar10-folders.py'
