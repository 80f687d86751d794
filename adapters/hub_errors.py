"""What goes wrong with the Hugging Face Hub, on one line and with the remedy."""

from __future__ import annotations

from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    GatedRepoError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

FAILURES = (OSError, ValueError, RuntimeError, HTTPError)
"""What the Hub's client raises. ``RuntimeError`` comes from transfers of its own; ``HTTPError`` is
of whichever library it speaks HTTP with, and is none of the others when nobody answers."""


def why(error: BaseException) -> str:
    """One line, with the remedy for what happens most."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    for kind, told in _KNOWN:
        if isinstance(error, kind):
            return told
    line = next(iter(str(error).splitlines()), type(error).__name__)
    if isinstance(error, HTTPError) and not isinstance(error, OSError):
        return f"the Hub cannot be reached ({line}); check the network, or the proxy's settings"
    status: int = getattr(getattr(error, "response", None), "status_code", 0)
    return _STATUS.get(status, line)


_KNOWN: list[tuple[type[Exception], str]] = [  # of one that is another, the narrower comes first
    (GatedRepoError, "access must be asked for on its page"),
    (
        RepositoryNotFoundError,
        "there is no such repository, or it wants you to log in: hf auth login",
    ),
    (RevisionNotFoundError, "it has no such revision"),
    (LocalEntryNotFoundError, "the Hub cannot be reached, and it is not in the cache"),
    (EntryNotFoundError, "it has no such file"),
]
_STATUS = {
    401: "log in: hf auth login",
    403: "you may not write there",
    409: "somebody else committed at the same time; try again",
    412: "somebody else committed at the same time; try again",
}
