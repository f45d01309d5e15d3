"""Errors that are meant for the user."""

from __future__ import annotations

from pydantic import ValidationError


class UserError(Exception):
    """An error that the user can correct: one line that names the file, utterance or key and says what to do.

    Commands print the message and exit with status 1, without a traceback (``--debug`` shows it).
    """


def one_line(error: Exception) -> str:
    """Format an error on one line, as commands print it."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    # pydantic's own text has several lines; the first error is enough to continue.
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        # An error of a whole section has no location in it.
        key = ".".join(map(str, first["loc"])) or error.title
        return f"{key}: {first['msg']}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if _is_lack_of_memory(error):
        return f"out of memory ({_first_line(error)[:200]}): use a smaller model or smaller batches"
    return f"{type(error).__name__}: {_first_line(error)} (unforeseen; --debug shows where)"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _is_lack_of_memory(error: Exception) -> bool:
    """Torch reports a failed allocation as a RuntimeError, or on a GPU as a subclass of it."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(part in str(error) for part in words)
    )
