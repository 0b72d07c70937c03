# The generated digits, trained on 2 CPU cores: data, schedule and runtime.
_base_ = ['./datasets/digits.py', './scratch_runtime.py']

train_cfg = dict(max_epochs=9, val_interval=9)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=25))
