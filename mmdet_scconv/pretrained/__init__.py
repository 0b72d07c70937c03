"""Reads any checkpoint without running code from it; reports what was loaded.
"""
from .checkpoint import read_dataset_meta, read_state_dict
from .download import local_file, sha256_of
from .loading import (
    CheckedPretrained,
    load_pretrained,
    prepare_pretrained,
    pretrained_cfgs,
    use_checked_pretrained,
)
from .reader import read_file
from .report import LoadReport, Report

__all__ = [
    'CheckedPretrained', 'LoadReport', 'Report', 'load_pretrained',
    'local_file', 'prepare_pretrained', 'pretrained_cfgs',
    'read_dataset_meta', 'read_file', 'read_state_dict', 'sha256_of',
    'use_checked_pretrained'
]
