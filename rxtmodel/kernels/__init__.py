"""Kernels of a GPU, in Triton; each does what lies between two exchanges of all rows. One of a
whole step is in CUDA C++ (``persistent``).

Only this package imports triton, which comes with a CUDA build of PyTorch, and cuda-bindings.
Import it where it runs.
"""
