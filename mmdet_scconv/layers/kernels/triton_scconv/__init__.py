"""SCConv with running statistics on a GPU: 5 kernels forward, 10 backward.
With batch statistics the SRU, 2 and 4 (sru.py), and what follows the CRU's
convolutions, 3 and 3 (norm_fuse.py).

The definition is layers/scconv.py. With h the SRU's output, cut in h_up and
h_low:

    up, low = norm(squeeze_up h_up), norm(squeeze_low h_low)
    acc_1 = GWC(up) + PWC1(pooled up),  acc_2 = [PWC2(pooled low), pooled low]
    Y = beta_1 norm_1(acc_1) + beta_2 norm_2(acc_2)
      = A acc_1 + B acc_2 + D          (A, B, D of each sample and channel)

beta is a softmax over the means of both branches. As the norms are affine,
these means follow from sums of ``up`` over what each tap of the GWC sees, so
that neither branch is ever written to memory. The low branch is pooled behind
its squeeze, which commutes with it.

Backward, with G the product of dY and what the fuse's convolutions see (one
matrix for each sample, the gradient of their weights but for A and B):
``sum(dY acc_i) = <weights, G>``, so that neither acc_i has to be computed
again. ``up`` and ``low`` are computed again, not kept.

From outside to inside:

- operators.py: the function with its gradient, as one node of a graph
- forward.py, backward.py: what is launched with which arrays, in order
- plan.py, launch.py: sizes of blocks and grids; a launch made once
- ../parameters.py: what is taken of an SCConv
- device/: the kernels
"""
from ..parameters import Options, Parameters
from .launch import Launch
from .norm_fuse import norm_fuse
from .operators import deployed_scconv, scconv
from .sru import sru

__all__ = [
    'Launch', 'Options', 'Parameters', 'deployed_scconv', 'norm_fuse',
    'scconv', 'sru'
]
