# From scratch on small data: schedule, and runtime with checked classes.
_base_ = [
    './schedules/schedule_scratch.py', 'mmdet::_base_/default_runtime.py',
    './scconv_runtime.py'
]

default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=2),
    num_classes=dict(type='CheckClassesHook'))
