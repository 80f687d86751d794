"""Errors of the model package."""


class RxtModelError(Exception):
    """Base class of all errors of this package."""


class ConfigError(RxtModelError, ValueError):
    """A configuration that cannot be built. The message names the fields and both values."""


class CheckpointError(RxtModelError):
    """A model folder or memory file that cannot be loaded. The message says what is wrong."""


class BackendUnavailable(RxtModelError):
    """An attention backend that cannot be had here. The message says what is missing."""
