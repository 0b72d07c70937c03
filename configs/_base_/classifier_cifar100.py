# Tables 1 and 2 on CIFAR-100:
#   data/cifar/cifar-100-python/
_base_ = './classifier_cifar10.py'

model = dict(
    data_preprocessor=dict(
        mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418]),
    num_classes=100)
train_dataloader = dict(dataset=dict(type='CIFAR100'))
val_dataloader = dict(dataset=dict(type='CIFAR100'))
test_dataloader = val_dataloader
