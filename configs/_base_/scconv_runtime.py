# What every config of this project adds to MMDetection's.
custom_imports = dict(imports=['mmdet_scconv'], allow_failed_imports=False)
# Says which file to put where when pretrained weights cannot be downloaded.
custom_hooks = [dict(type='CheckPretrainedHook')]
