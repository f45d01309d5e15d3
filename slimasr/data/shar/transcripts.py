"""Transcripts of shards in the form that all stages expect."""

from __future__ import annotations


def transcript(text: str | None) -> str:
    """The transcript with one space between words; given shards may have others."""
    return " ".join((text or "").split())
