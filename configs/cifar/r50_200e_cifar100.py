_base_ = '../_base_/classifier_cifar100.py'
