"""Interfaces by which library functions show progress and notes, without knowing where these appear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Passes items on and shows how many of them have passed."""

    def __call__(self, items: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]: ...


class Notes(Protocol):
    """Receives what the user should know, one sentence per note."""

    def __call__(self, notes: Iterable[str]) -> None: ...


def silent(items: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
    """Pass items on without showing progress."""
    return iter(items)


def unread(notes: Iterable[str]) -> None:
    """Receive notes and ignore them."""
