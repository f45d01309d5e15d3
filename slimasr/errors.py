"""Errors meant for the person at the keyboard."""

from __future__ import annotations

from pydantic import ValidationError


class UserError(Exception):
    """Something the user can put right: one line that names the file, utterance or key and says what to do.

    Commands print the message and exit with status 1, without a traceback (``--debug`` shows it).
    """


def one_line(error: Exception) -> str:
    """Any error as it is printed."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or error.title}: {first['msg']}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    first_line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first_line} (unforeseen; --debug shows where)"
