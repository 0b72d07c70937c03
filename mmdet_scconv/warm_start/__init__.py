"""Starts a network with swapped convolutions from the dense one's weights.

The equations and how the pieces fit together: docs/warm_start.md.
"""
from .cache import cache_dir, cache_key, load_fitted, once, store_fitted
from .distill import distill_network
from .layers import LayerReport, method_of
from .moments import FitError
from .network import fit_network, summary

__all__ = [
    'FitError', 'LayerReport', 'cache_dir', 'cache_key', 'distill_network',
    'fit_network', 'load_fitted', 'method_of', 'once', 'store_fitted',
    'summary'
]
