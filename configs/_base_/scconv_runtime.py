# What every config of this project adds to MMDetection's.
custom_imports = dict(imports=['mmdet_scconv'], allow_failed_imports=False)
# Adds the hooks that protect a training: complete checkpoints, the check of
# the loss, seeded epochs, checks of pretrained weights and of resumed
# checkpoints; and one that saves time on CPUs. A config that needs one more
# hook:
#   custom_hooks = [*_base_.custom_hooks, dict(type=...)]
custom_hooks = [dict(type='SCConvRuntimeHook')]
