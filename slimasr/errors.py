"""Errors meant for the person at the keyboard."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right: one line that names the file, utterance or key and says what to do.

    Commands print the message and exit with status 1, without a traceback (``--debug`` shows it).
    """
