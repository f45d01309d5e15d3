"""A PostgreSQL server of the test's own: Debian's binaries, a temporary folder, one port of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USER = "nobody"
"""PostgreSQL refuses to run as root; then this user runs it."""


@dataclass(frozen=True)
class Server:
    """A database cluster that can be stopped and started."""

    folder: Path
    binaries: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://slimasr@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        # The log goes to a file: a pipe would stay open as long as the server runs.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._control("-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        """As if the machine had lost power; nothing where it does not run."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self._control("-m", "immediate", "stop")

    def _control(self, *arguments: str) -> None:
        run(self.binaries / "pg_ctl", "-D", self.folder / "data", "-w", *arguments)


def run(*command: object) -> None:
    """Run as a user that PostgreSQL accepts."""
    prefix = ["setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    subprocess.run([*prefix, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd="/")


def find_binaries() -> Path:
    """Where Debian or the PATH has initdb and pg_ctl; skips the test where they are absent."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'slimasr[postgresql]'")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("pg_ctl")
    places += [Path(found).resolve().parent] if found else []
    for place in places:
        if (place / "initdb").exists() and (place / "pg_ctl").exists():
            return place
    pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")


@contextmanager
def running_server() -> Iterator[Server]:
    """A new cluster that runs, gone afterwards.

    Not in pytest's folders: those are for their owner alone, and too long for a socket's name.
    """
    with tempfile.TemporaryDirectory(prefix="slimasr-pg-") as folder:
        server = make_server(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def make_server(folder: Path) -> Server:
    """A new cluster, not started."""
    binaries = find_binaries()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and setpriv is absent")
        shutil.chown(folder, USER)
    run(binaries / "initdb", "-D", folder / "data", "-U", "slimasr", "-A", "trust", "-E", "UTF8", "--no-sync")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Server(folder, binaries, port)
