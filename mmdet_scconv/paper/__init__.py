"""The paper's tables: their rows, parameters and FLOPs, and measured results.
"""
