"""The kernels.

Maps are read and written as few times as the algebra allows. C, H, W are the
input's sizes, HO, WO the output's; ``squeezed`` is the map between SRU and
fuse, (N, H, W, U + T): up, U wide, and low, T wide. Parameters are read as
they are, norms included, so that nothing has to be prepared, or kept up to
date, outside.

Forward, in order: squeeze.py, fuse.py. Backward: squeeze.py again,
fuse_parameters_gradient.py, fuse_input_gradient.py, gate_gradient.py,
squeeze_parameters_gradient.py. At batch statistics: sru.py, norm_fuse.py.
"""
