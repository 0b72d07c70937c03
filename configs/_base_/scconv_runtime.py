# What every config of this project adds to MMDetection's.
custom_imports = dict(imports=['mmdet_scconv'], allow_failed_imports=False)
# Brings what protects a training: whole checkpoints, the check of the loss,
# seeded epochs, the checks of pretrained weights and of what is resumed. A
# config that needs one more hook:
#   custom_hooks = [*_base_.custom_hooks, dict(type=...)]
custom_hooks = [dict(type='SCConvRuntimeHook')]
