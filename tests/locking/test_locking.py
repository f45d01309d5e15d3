"""Locks between real processes: who gets them, who is refused, who takes over after a death."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slimasr.errors import UserError
from slimasr.locking import file_lock, folder_lock, lockfile, refuse_while_locked
from slimasr.locking.owner import HEARTBEAT_SECONDS, STALE_SECONDS, Owner
from tests.locking.kit import forge, set_back

ROOT = Path(__file__).parents[2]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `tests.locking.holder`; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.locking.holder", *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the lock lies."""
    return tmp_path / "exp" / "experiment.lock"


def answer(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Let a process go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def refused(path: Path, message: str) -> None:
    """The lock cannot be taken."""
    with pytest.raises(UserError, match=message), folder_lock(path, "refused"):
        pass


def left(path: Path) -> list[str]:
    """What lies in the folder."""
    return sorted(item.name for item in path.parent.iterdir())


def test_a_second_process_is_refused_and_told_who_holds_the_lock(start: Start, path: Path) -> None:
    holder = start("hold", path)
    assert answer(holder) == "held"
    second = start("hold", path)
    refusal = answer(second)
    assert second.wait(timeout=60) == 1
    for part in (str(path.parent), "slimasr-test", f"process {holder.pid}", platform.node(), "since 20", "hold"):
        assert part in refusal
    assert "delete" not in refusal  # on this machine nothing has to be deleted, whatever happens
    tell(holder)
    assert answer(holder) == "released"
    assert holder.wait(timeout=60) == 0
    with folder_lock(path, "next"):
        assert left(path) == ["experiment.lock"]
    assert not path.parent.exists()  # nothing else was put into it


def test_the_same_process_is_refused_as_well_and_may_come_again(path: Path) -> None:
    for _ in range(2):
        with folder_lock(path, "first"):
            refused(path, f"process {os.getpid()} ")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_lock_is_released_on_the_way_out(path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), folder_lock(path, "failing"):
        raise error
    assert not path.exists()


def test_sigterm_releases_and_ends_as_it_does_by_default(start: Start, path: Path) -> None:
    holder = start("hold", path)
    assert answer(holder) == "held"
    holder.terminate()
    assert holder.wait(timeout=60) == -signal.SIGTERM
    assert not path.exists()


def test_a_killed_holder_is_succeeded_by_one_process_only(start: Start, path: Path) -> None:
    for _ in range(4):
        holder = start("hold", path)
        assert answer(holder) == "held"
        holder.kill()
        holder.wait()
        assert path.exists()
        rivals = [start("once", path) for _ in range(4)]
        assert [answer(rival) for rival in rivals] == ["ready"] * 4
        for rival in rivals:
            tell(rival)
        said = sorted(answer(rival).split(":")[0] for rival in rivals)
        assert said == ["refused", "refused", "refused", "won"]
        for rival in rivals:
            rival.communicate()
        assert not path.exists()


def race(path: Path, barrier: threading.Barrier, held: list[int], overlaps: list[int]) -> None:
    """Take the lock as the others do at the same time, and note whether somebody else has it."""
    barrier.wait()
    owner = Owner.here("race")
    try:
        lockfile.take(path, owner)
    except lockfile.HeldError:
        return
    held.append(1)
    if len(held) > 1:
        overlaps.append(1)
    time.sleep(0.002)
    held.pop()
    lockfile.remove(path, owner.token, owner)


def test_two_takers_of_a_stale_lock_many_times(path: Path) -> None:
    overlaps: list[int] = []
    for _ in range(150):
        forge(path, seconds=2 * STALE_SECONDS)
        barrier, held = threading.Barrier(3), list[int]()
        threads = [threading.Thread(target=race, args=(path, barrier, held, overlaps)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert left(path) == []
    assert overlaps == []


def test_whoever_judged_an_earlier_lock_removes_no_later_one(path: Path) -> None:
    """Of two takers one may sleep between its judgement and its deed, while the other takes over."""
    old = forge(path, seconds=2 * STALE_SECONDS)
    with folder_lock(path, "taker") as lock:
        lockfile.remove(path, old.token, Owner.here("late"))
        lock.verify()
        assert path.exists()


def test_a_guard_of_a_killed_taker_does_not_stay_in_the_way(path: Path) -> None:
    old = forge(path, seconds=2 * STALE_SECONDS)
    guard = path.with_name(f"{path.name}.{old.token[:8]}")
    dead = subprocess.run(
        [sys.executable, "-c", "from slimasr.locking.owner import Owner as o; print(o.here('x').to_json())"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    guard.write_text(dead.stdout)
    with folder_lock(path, "taker"):
        assert left(path) == ["experiment.lock"]


def test_a_lock_of_another_machine_holds_while_its_heart_beats(path: Path) -> None:
    forge(path, seconds=STALE_SECONDS - 60)
    with pytest.raises(UserError) as caught, folder_lock(path, "here"):
        pass
    message = str(caught.value)
    assert f"delete {path}" in message and "10 minutes" in message
    assert "process 77 on far, user ann" in message
    assert "\n" not in message


def test_a_lock_of_another_machine_without_heartbeat_is_taken_over(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(path, seconds=STALE_SECONDS + 60)
    with folder_lock(path, "here"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    note = capsys.readouterr().err
    assert note.startswith("note: ") and "process 77 on far" in note and "11 minutes" in note


def test_heartbeats_are_compared_with_the_clock_of_the_file_system(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge(path, seconds=10.0)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3 * STALE_SECONDS)  # this machine's clock is ahead
    refused(path, "in use")


def test_a_restart_of_this_machine_ends_its_owners(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slimasr.locking.owner._uptime", lambda: 200.0)
    forge(path, seconds=150.0, host=platform.node())  # a namesake whose heart beat since
    refused(path, "in use")
    forge(path, seconds=250.0, host=platform.node())
    with folder_lock(path, "here"):
        pass
    forge(path, seconds=250.0)  # another machine, which may well be running
    refused(path, "in use")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\x00\xff"])
def test_a_damaged_lock_file_counts_by_its_age(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content, encoding="latin-1")
    refused(path, r"unknown process.*delete ")
    set_back(path, STALE_SECONDS + 1)
    with folder_lock(path, "here"):
        pass


def test_the_heart_beats(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slimasr.locking.lock.HEARTBEAT_SECONDS", 0.05)
    with folder_lock(path, "here"):
        set_back(path, 3600)
        deadline = time.monotonic() + 30
        while path.stat().st_mtime < time.time() - 60:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_lock_deleted_by_mistake_is_put_back(path: Path) -> None:
    with folder_lock(path, "here") as lock:
        path.unlink()
        lock.verify()
        assert path.exists()


def test_an_owner_whose_lock_was_taken_stops_before_it_writes(start: Start, path: Path) -> None:
    with folder_lock(path, "first") as lock:
        lock.verify()
        path.unlink()
        second = start("hold", path)
        assert answer(second) == "held"
        lock.check()  # without a heartbeat since, nothing is known
        with pytest.raises(UserError, match=r"removed, now held by slimasr-test .*stops"):
            lock.verify()
    # The second one's lock stays, and it does not notice.
    tell(second)
    assert answer(second) == "released"


def test_a_heartbeat_notices_a_lost_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slimasr.locking.lock.HEARTBEAT_SECONDS", 0.05)
    with folder_lock(path, "here") as lock:
        temporary = path.with_name("x")
        forge(temporary)
        temporary.replace(path)
        time.sleep(1.0)
        with pytest.raises(UserError, match="process 77 on far"):
            lock.check()
    assert path.exists()


def test_a_folder_that_was_removed_stops_its_owner(path: Path) -> None:
    with folder_lock(path, "here") as lock:
        path.unlink()
        path.parent.rmdir()
        with pytest.raises(UserError, match="its folder is gone"):
            lock.verify()
    assert not path.parent.exists()


def leave() -> None:
    """What a child of the owner does: nothing, and end."""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_and_threads_of_the_owner_do_not_release(path: Path, method: str) -> None:
    with folder_lock(path, "here") as lock:
        child = multiprocessing.get_context(method).Process(target=leave)
        child.start()
        child.join()
        pid = os.fork()
        if pid == 0:
            lock.release()
            os._exit(0)
        os.waitpid(pid, 0)
        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        lock.verify()
        assert path.exists()


def test_a_thread_can_hold_a_lock(path: Path) -> None:
    outcome = []

    def work() -> None:
        with folder_lock(path, "thread"):
            outcome.append(path.exists())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcome == [True]


def test_waiting_for_a_lock(start: Start, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holder = start("hold", path)
    assert answer(holder) == "held"
    timer = threading.Timer(0.5, tell, [holder])
    timer.start()
    with folder_lock(path, "patient", wait=True):
        assert answer(holder) == "released"


def test_readers_are_refused_while_a_writer_runs(start: Start, path: Path) -> None:
    refuse_while_locked(path, "reader")
    holder = start("hold", path)
    assert answer(holder) == "held"
    with pytest.raises(UserError, match=f"process {holder.pid} "):
        refuse_while_locked(path, "reader")
    holder.kill()
    holder.wait()
    refuse_while_locked(path, "reader")
    assert not path.exists()


def test_changes_of_a_file_are_not_lost(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("0")
    workers = [start("count", path, 50) for _ in range(4)]
    assert [worker.wait(timeout=120) for worker in workers] == [0] * 4
    assert path.read_text() == "200"
    assert left(path) == ["number"]


def test_a_file_lock_waits_out_a_killed_holder(start: Start, tmp_path: Path) -> None:
    lock = tmp_path / ".results.json.lock"
    holder = start("hold", lock)
    assert answer(holder) == "held"
    holder.kill()
    holder.wait()
    with file_lock(tmp_path / "results.json"):
        assert lock.exists()


def test_file_systems_without_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with folder_lock(path, "first"):
        refused(path, "in use by first")
    assert not path.exists()


def test_a_link_whose_answer_was_lost_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS repeats the call, and the repetition finds the file that the first one made."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    with folder_lock(path, "here") as lock:
        lock.verify()


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "experiment.lock", r"experiment.lock: cannot be written \(")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(lockfile, "_write_new", refuse)
    refused(tmp_path / "experiment.lock", r"experiment.lock: cannot be written \(Read-only file system\)")


def test_heartbeats_are_much_more_frequent_than_patience_is_long() -> None:
    assert 5 * HEARTBEAT_SECONDS < STALE_SECONDS
    assert lockfile.SHORT_STALE_SECONDS >= 2 * HEARTBEAT_SECONDS
