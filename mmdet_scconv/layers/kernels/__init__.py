"""Compiled kernels; everything works without them.

- cpu_sru.cpp and cpu_cru.cpp, compiled and loaded by cpu.py: the SRU's gate,
  and what the CRU with running statistics computes beside its convolutions, on
  the CPU. Their callers in fused/ ask whether they fit (:func:`cpu.fits`).
- triton_scconv/: a whole SCConv with running statistics, on a GPU. gpu.py
  tells whether it fits an input and calls it (:func:`gpu.by_kernels`);
  compare.py compares it with the definition before its first use.
"""
