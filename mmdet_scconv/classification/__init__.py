"""Image classification, to pre-train backbones; registered in mmdet's scope.

MMEngine's runner and tools/train.py train a classifier as they do a detector.
"""
from .cifar import CIFAR10, CIFAR100
from .classifier import ImageClassifier
from .digit_folders import make_digit_folders
from .image_folder import ImageFolder
from .metric import TopKAccuracy
from .transforms import PackClsInputs, RandomPadCrop, RandomResizedCrop

__all__ = [
    'CIFAR10', 'CIFAR100', 'ImageClassifier', 'ImageFolder', 'PackClsInputs',
    'RandomPadCrop', 'RandomResizedCrop', 'TopKAccuracy', 'make_digit_folders'
]
