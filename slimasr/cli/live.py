"""Shows the results of streams on stdout while they grow, and lets the first Ctrl-C end a stream."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from slimasr.data.tokens.tokenizer import Tokenizer
    from slimasr.decoding.streaming.stream import StreamResult

Format = Literal["text", "json"]


def show(results: Iterable[StreamResult], form: Format, partials: bool, name: str | None, tokenizer: Tokenizer) -> None:
    """Print the results of one stream.

    Args:
        results: what is known after each piece of audio; the last one is final.
        form: ``text``: on a terminal, the line grows in place, elsewhere only the final one is printed. ``json``: one
            object for every change.
        partials: print every change as a line of text.
        name: printed with every line; None = nothing is.
        tokenizer: names the tokens.
    """
    if form == "json":
        _show_json(results, name, tokenizer)
    elif partials or not sys.stdout.isatty():
        _show_lines(results, partials, name)
    else:
        _show_in_place(results, name)


def _changes(results: Iterable[StreamResult]) -> Iterator[StreamResult]:
    """Yield the results that differ from the one before in more than the length of the audio, and the final one."""
    before: object = ("", ())
    for result in results:
        known = (result.text, result.times)
        if result.final or known != before:
            yield result
        before = known


def _show_json(results: Iterable[StreamResult], name: str | None, tokenizer: Tokenizer) -> None:
    for result in _changes(results):
        fields: dict[str, Any] = {} if name is None else {"name": name}
        fields |= {
            "seconds": round(result.seconds, 3),
            "text": result.text,
            "final": result.final,
            "tokens": [tokenizer.tokens[token] for token in result.tokens],
            "times": list(result.times),
        }
        _write(json.dumps(fields, ensure_ascii=False) + "\n")


def _show_lines(results: Iterable[StreamResult], partials: bool, name: str | None) -> None:
    for result in _changes(results):
        if partials or result.final:
            _write(f"{_labelled(result.text, name)}\n")


def _show_in_place(results: Iterable[StreamResult], name: str | None) -> None:
    from wcwidth import wcswidth

    for result in _changes(results):
        text = _labelled(result.text, name)
        if result.final:
            # From the start of the line, which is cleared first.
            _write(f"\r\x1b[K{text}\n")
            continue
        columns = os.get_terminal_size(sys.stdout.fileno()).columns - 1
        # A longer line would wrap, and could not be written over: only its end is shown.
        while text and wcswidth(text) > columns:
            text = text[max(1, (wcswidth(text) - columns) // 2) :]
        _write(f"\r\x1b[K{text}")


def _labelled(text: str, name: str | None) -> str:
    return text if name is None else f"{name}: {text}"


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@contextmanager
def first_interrupt_stops() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C in the block end the stream that runs, and the second one the command.

    Yields:
        A function that says whether the first one has come.
    """
    stop = threading.Event()
    # Signals reach the main thread alone.
    if threading.current_thread() is not threading.main_thread():
        yield stop.is_set
        return

    def note(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def drop_output() -> None:
    """Let what is still to be written to stdout go nowhere, since its reader has gone."""
    # Python writes what is left at exit, which would print an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
