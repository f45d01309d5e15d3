"""The database of a study: found by URL, and asked again with patience when it is away for a while."""

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
"""How long a database may be away when it is opened: a wrong address should show soon."""
LONGEST_PAUSE = 5.0
BEATS_OF_GRACE = 6
AWAY = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
"""Errors of a database that is not there."""
_SQLITE_WAIT = 60.0
_SQLITE_FILE = "sqlite:///"
_SQLITE_OPTIONS = {
    *("cache", "cached_statements", "check_same_thread", "detect_types", "immutable", "isolation_level"),
    *("mode", "nolock", "timeout", "uri", "vfs"),
}
_HOPELESS = ("disk is full", "disk I/O error", "readonly database", "unable to open database file")
"""What SQLite says of a file that waiting will not mend."""

_logger = logging.getLogger(__name__)


def default_url(exp: Path) -> str:
    """The database of an experiment, a file."""
    return _SQLITE_FILE + quote(os.fsencode(exp / "search" / "study.db"))


class Database:
    """Connections of one process, shared by its threads."""

    def __init__(self, url: str, *, patience: float, heartbeat_seconds: int) -> None:
        """Open, and make tables where there are none.

        Args:
            url: as SQLAlchemy reads it; ``postgresql://`` means the psycopg driver.
            patience: seconds that the database may be away later on.
            heartbeat_seconds: between signs of life of a worker.

        Raises:
            UserError: it cannot be reached, or its driver is not installed.
        """
        if url in ("sqlite://", _SQLITE_FILE) or (url.startswith("sqlite") and "memory" in url.rpartition("/")[2]):
            raise UserError(f"--storage {url}: needs a file, such as sqlite:///search.db, which all workers share")
        self.file = _sqlite_file(url)
        self.name = _readable(url) if self.file is None else f"{_SQLITE_FILE}{self.file}"
        self._url = _with_driver(url)
        self.heartbeat_seconds = heartbeat_seconds
        self._patience = patience
        self._away = float("-inf")
        if self.file is not None:
            with writing(self.file):
                self.file.parent.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage: RDBStorage = self.patiently(self._open, min(patience, OPENING_SECONDS))

    def patiently(self, call: Callable[[], T], patience: float | None = None) -> T:
        """The call's result; repeated, with growing pauses, while the database is away.

        Raises:
            UserError: it did not come back in time.
        """
        patience = self._patience if patience is None else patience
        start = time.monotonic()
        pause = 0.1
        told = False
        while True:
            try:
                result = call()
                if told:
                    self.note_away()
                return result
            except AWAY as error:
                reason = _reason(error)
                if _is_no_database(error):
                    raise UserError(f"database {self.name}: {reason}; delete it to search again") from None
                if self.file is not None and any(words in reason for words in _HOPELESS):
                    raise UserError(
                        f"database {self.file}: {reason}; check the disk's free space and the permissions of file and "
                        "folder, and run the same command again: the search goes on"
                    ) from None
                if time.monotonic() - start + pause > patience:
                    advice = "bring it back and run the same command again: the search goes on"
                    raise UserError(
                        f"database {self.name} has not answered for {patience:.0f} s ({reason}); {advice}"
                    ) from None
                if not told:
                    _logger.warning("database %s: %s; trying again for %.0f s", self.name, reason, patience)
                told = True
                self.note_away()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    @property
    def grace_seconds(self) -> float:
        """How long a worker may give no sign of life."""
        return float(BEATS_OF_GRACE * self.heartbeat_seconds)

    def note_away(self) -> None:
        """The database does not answer, or has only just come back."""
        self._away = time.monotonic()

    @property
    def settled(self) -> bool:
        """Whether it has been there for so long that every living worker could give a sign of life."""
        return time.monotonic() - self._away > self.grace_seconds

    def _open(self) -> RDBStorage:
        sqlite = self._url.startswith("sqlite")
        # A pooled connection of a server that was restarted is dead: it is tried before it is used.
        options: dict[str, Any] = {"connect_args": {"timeout": _SQLITE_WAIT}} if sqlite else {"pool_pre_ping": True}
        # Optuna fills in what stands between braces.
        url = self._url.replace("{", "{{").replace("}", "}}")
        if self.file is not None:
            # SQLAlchemy would read some names as options or escapes, so it is not the one that opens the file. Its
            # pool passes connections between threads, as it does with those that it opens itself.
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
    """Several times faster; a kill loses nothing, and a power cut at most the last evaluations."""

    def configure(connection: Any, record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    sqlalchemy.event.listen(engine, "connect", configure)
    engine.dispose()


def _with_driver(url: str) -> str:
    scheme, colon, rest = url.partition(":")
    return f"postgresql+psycopg{colon}{rest}" if scheme in ("postgres", "postgresql") else url


def _readable(url: str) -> str:
    """The URL without its password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return url


def _sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for other databases, and for URLs with options of SQLite.

    A ``?`` that does not begin such options belongs to the name.
    """
    if not url.startswith(_SQLITE_FILE):
        return None
    name = url.removeprefix(_SQLITE_FILE)
    options = dict(parse_qsl(name.partition("?")[2]))
    if name in ("", ":memory:") or (options and set(options) <= _SQLITE_OPTIONS):
        return None
    return Path(os.fsdecode(unquote_to_bytes(os.fsencode(name))))


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=_SQLITE_WAIT, check_same_thread=False)


def _is_no_database(error: BaseException) -> bool:
    """Whether a file holds something else, or a database that is damaged."""
    signs = ("file is not a database", "malformed")
    return any(sign in str(e) for e in (error, error.__cause__) if e is not None for sign in signs)


def _reason(error: BaseException) -> str:
    """The innermost message, one line."""
    cause = error.__cause__ or getattr(error, "orig", None) or error
    cause = getattr(cause, "orig", None) or cause
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)
