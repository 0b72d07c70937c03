# MMDetection's runtime without its pictures of boxes.
_base_ = ['mmdet::_base_/default_runtime.py', './scconv_runtime.py']

default_hooks = dict(
    _delete_=True,
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        interval=1,
        max_keep_ckpts=2,
        save_best='accuracy/top1',
        rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'))
visualizer = dict(_delete_=True, type='Visualizer',
                  vis_backends=[dict(type='LocalVisBackend')])
