"""Batched, step-wise execution of a model. Decides nothing about order."""

from .decode import DecodeBatch

__all__ = ["DecodeBatch"]
