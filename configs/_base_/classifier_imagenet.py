# Table 3: data, schedule and the classifier; rows set the backbone. The
# paper's schedule is not known. This is the usual one of its baseline: 256
# images a step (8 GPUs with 32), 100 epochs, no label smoothing.
_base_ = [
    './models/classifier.py', './datasets/imagenet.py',
    './schedules/schedule_sgd.py', './classification_runtime.py'
]

model = dict(
    backbone=dict(
        type='ResNet', depth=50, norm_eval=False, out_indices=(3, )),
    num_classes=1000)
