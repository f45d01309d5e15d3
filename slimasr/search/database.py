"""The database of a study: how it is opened from a URL, and how calls are repeated while it does not answer."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from slimasr.errors import UserError
from slimasr.files import writing

T = TypeVar("T")

OPENING_SECONDS = 15.0
"""How long a database may be away when it is opened: the user should see soon that an address is wrong."""
LONGEST_PAUSE = 5.0
"""Seconds between two attempts at most."""
BEATS_OF_GRACE = 6
"""A worker that misses so many heartbeats counts as dead."""
AWAY = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
"""Errors of a database that does not answer."""
_SQLITE_WAIT = 60.0
"""Seconds that SQLite waits for another process's lock on the file."""
_SQLITE_FILE = "sqlite:///"
_SQLITE_OPTIONS = {
    "cache",
    "cached_statements",
    "check_same_thread",
    "detect_types",
    "immutable",
    "isolation_level",
    "mode",
    "nolock",
    "timeout",
    "uri",
    "vfs",
}
"""Options that pysqlite and SQLite read from a URL."""
_HOPELESS = ("disk is full", "disk I/O error", "readonly database", "unable to open database file")
"""Messages of SQLite for faults of a file that waiting does not cure."""

_logger = logging.getLogger(__name__)


def default_url(exp: Path) -> str:
    """Return the URL of an experiment's own database, an SQLite file."""
    # Path names are bytes: those that are no valid text survive in a URL only when they are quoted.
    return _SQLITE_FILE + quote(os.fsencode(exp / "search" / "study.db"))


class Database:
    """The connections of one process to the database, which its threads share.

    Attributes:
        file: path of an SQLite database, None for other databases.
        name: the URL without its password, for messages.
        storage: optuna's storage in this database; the claims use its engine.
    """

    def __init__(self, url: str, *, patience: float, heartbeat_seconds: int) -> None:
        """Open the database, and create optuna's tables if they do not exist.

        Args:
            url: a URL of SQLAlchemy; ``postgresql://`` selects the psycopg driver.
            patience: seconds for which later calls are repeated while the database does not answer.
            heartbeat_seconds: seconds between two heartbeats of a worker.

        Raises:
            UserError: the database cannot be reached, or its driver is not installed.
        """
        # A database in memory would be private to this process, so workers could not share it.
        if url in ("sqlite://", _SQLITE_FILE) or (url.startswith("sqlite") and "memory" in url.rpartition("/")[2]):
            raise UserError(f"--storage {url}: needs a file, such as sqlite:///search.db, which all workers share")
        self.file = _sqlite_file(url)
        self.name = _readable(url) if self.file is None else f"{_SQLITE_FILE}{self.file}"
        self._url = _with_driver(url)
        self.heartbeat_seconds = heartbeat_seconds
        self._patience = patience
        # When the database last failed to answer; -inf = never, so that a new database counts as settled.
        self._away = float("-inf")
        if self.file is not None:
            with writing(self.file):
                self.file.parent.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage: RDBStorage = self.patiently(self._open, min(patience, OPENING_SECONDS))

    def patiently(self, call: Callable[[], T], patience: float | None = None) -> T:
        """Return the result of a call, which is repeated with growing pauses while the database does not answer.

        An attempt whose connection broke may have been committed, so the call must be safe to repeat.

        Args:
            call: what to do.
            patience: seconds before the call fails; default: the patience of the database.

        Raises:
            UserError: the database did not come back in time, or waiting cannot help.
        """
        patience = self._patience if patience is None else patience
        start = time.monotonic()
        pause = 0.1
        warned = False
        while True:
            try:
                result = call()
                if warned:
                    # Other workers reconnect about now, so the grace for their heartbeats begins at this moment.
                    self.note_away()
                return result
            except AWAY as error:
                reason = _reason(error)
                if _is_no_database(error):
                    raise UserError(f"database {self.name}: {reason}; delete it to search again") from None
                if self.file is not None and any(words in reason for words in _HOPELESS):
                    raise UserError(
                        f"database {self.file}: {reason}; check the disk's free space and the permissions of file and "
                        "folder, and run the same command again to resume the search"
                    ) from None
                if time.monotonic() - start + pause > patience:
                    advice = "bring it back and run the same command again to resume the search"
                    raise UserError(
                        f"database {self.name} has not answered for {patience:.0f} s ({reason}); {advice}"
                    ) from None
                if not warned:
                    _logger.warning("database %s: %s; trying again for %.0f s", self.name, reason, patience)
                warned = True
                self.note_away()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    @property
    def grace_seconds(self) -> float:
        """Seconds without a heartbeat after which a worker counts as dead."""
        return float(BEATS_OF_GRACE * self.heartbeat_seconds)

    def note_away(self) -> None:
        """Record that the database does not answer, or has only just come back."""
        self._away = time.monotonic()

    @property
    def settled(self) -> bool:
        """Whether the database has answered for so long that every living worker has had time for a heartbeat."""
        return time.monotonic() - self._away > self.grace_seconds

    def _open(self) -> RDBStorage:
        """Connect once; errors that waiting cannot cure become `UserError`, the others are left to `patiently`."""
        sqlite = self._url.startswith("sqlite")
        options: dict[str, Any] = {"connect_args": {"timeout": _SQLITE_WAIT}}
        if not sqlite:
            # A pooled connection to a server that was restarted is dead, so each is tested before it is used.
            options = {"pool_pre_ping": True}
        # Optuna formats the URL with `str.format`, so literal braces are doubled.
        url = self._url.replace("{", "{{").replace("}", "}}")
        if self.file is not None:
            # SQLAlchemy would read parts of some file names as options or escapes. So `_connect` opens the file, and
            # the URL only names it.
            url = _SQLITE_FILE + quote(os.fsencode(self.file))
            options = {"creator": partial(_connect, self.file)}
        try:
            storage = RDBStorage(url, engine_kwargs=options)
            if sqlite:
                _write_ahead(storage.engine)
            return storage
        except ImportError:
            raise UserError(
                f"database {self.name}: its driver is not installed; for PostgreSQL: pip install 'slimasr[postgresql]'"
            ) from None
        except (ArgumentError, NoSuchModuleError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"--storage {self.name}: {_reason(error)}") from None
        except RuntimeError as error:  # tables of another version of optuna
            raise UserError(f"database {self.name}: {_reason(error)}") from None


def _write_ahead(engine: sqlalchemy.engine.Engine) -> None:
    """Make SQLite use a write-ahead log, and wait for the disk only at checkpoints.

    This is several times as fast. A killed process loses nothing, and a power cut at most the last evaluations.
    """

    def configure(connection: Any, record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    sqlalchemy.event.listen(engine, "connect", configure)
    # Close the connections that were opened before they could be configured.
    engine.dispose()


def _with_driver(url: str) -> str:
    """Return the URL with the driver that this package installs: SQLAlchemy's default for PostgreSQL is psycopg2."""
    scheme, colon, rest = url.partition(":")
    return f"postgresql+psycopg{colon}{rest}" if scheme in ("postgres", "postgresql") else url


def _readable(url: str) -> str:
    """Return the URL without its password, for messages and logs."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return url


def _sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite URL; None for other databases, and for URLs with options of SQLite.

    A ``?`` that is not followed by such options is part of the file's name.
    """
    if not url.startswith(_SQLITE_FILE):
        return None
    name = url.removeprefix(_SQLITE_FILE)
    options = dict(parse_qsl(name.partition("?")[2]))
    if name in ("", ":memory:") or (options and set(options) <= _SQLITE_OPTIONS):
        return None
    return Path(os.fsdecode(unquote_to_bytes(os.fsencode(name))))


def _connect(file: Path) -> sqlite3.Connection:
    # The pool hands a connection from one thread to another, but never to two at once: sqlite3 need not check that.
    return sqlite3.connect(file, timeout=_SQLITE_WAIT, check_same_thread=False)


def _is_no_database(error: BaseException) -> bool:
    """Return whether the file is not a database, or a damaged one."""
    signs = ("file is not a database", "malformed")
    # Optuna raises its own error from that of SQLAlchemy, which holds the driver's message.
    messages = (str(error), str(error.__cause__))
    return any(sign in message for message in messages for sign in signs)


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost message."""
    # Optuna has SQLAlchemy's error as its cause, and SQLAlchemy the driver's error as `orig`.
    cause = error.__cause__ or getattr(error, "orig", None) or error
    cause = getattr(cause, "orig", None) or cause
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
