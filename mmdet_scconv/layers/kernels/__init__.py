"""Compiled kernels; everything works without them.

- cpu.cpp, compiled and loaded by cpu.py: the SRU's gate, on the CPU. The gate
  itself asks whether it fits its input (:func:`cpu.fits`).
- triton_scconv/: a whole SCConv with running statistics, on a GPU. gpu.py
  tells whether it fits an input and calls it (:func:`gpu.by_kernels`);
  compare.py compares it with the definition before its first use.
"""
