"""Triton kernels of one decoding step: each does what lies between two exchanges of all rows.

Only this package imports triton, which comes with a CUDA build of PyTorch; import it where it runs.
"""
