"""The fixture of all rules."""

from .readers import read

__all__ = ["read"]
