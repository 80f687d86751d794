"""A decoded token on a CPU as one call of C, compiled where it runs.

PyTorch spends most of a small model's token on a hundred operators between the products, and holds
Python's interpreter lock most of the while. ``NativeDecoder`` does the same mathematics in one call
that releases the lock. It needs a C compiler (``cc``, or what ``CC`` says); without one, and for
models that ``support.why_not`` names, PyTorch decodes. ``RXT_NATIVE=0`` has it so everywhere.
"""

from .decoder import NativeDecoder
from .library import NativeUnavailable

__all__ = ["NativeDecoder", "NativeUnavailable"]
