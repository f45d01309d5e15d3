"""Writes transcripts in the formats that people ask for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

from slimasr.data.timelines.ctm import ctm_line
from slimasr.decoding.searches.timed import DECIMALS, Transcript
from slimasr.decoding.transcription.inputs import Recording, transcript_names
from slimasr.decoding.transcription.subtitles import to_srt, to_vtt
from slimasr.errors import UserError
from slimasr.files import writing

Form = Literal["text", "json", "srt", "vtt", "ctm"]
FORMS: tuple[Form, ...] = get_args(Form)

SUBTITLES: tuple[Form, ...] = ("srt", "vtt")
"""A file of these formats holds one recording."""

_ENDINGS: dict[Form, str] = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt", "ctm": ".ctm"}


def written(transcript: Transcript, form: Form, label: str, tokens: Sequence[str], name: str | None = None) -> str:
    """Write a transcript in a format; the result ends with a line end unless it is empty.

    Args:
        transcript: what has been recognised.
        form: the format.
        label: names the recording in the lines of a CTM file; it has no white space.
        tokens: id -> token.
        name: names the recording in text and JSON; None = nothing does.
    """
    if form == "text":
        return f"{transcript.text}\n" if name is None else f"{name}: {transcript.text}\n"
    if form == "json":
        fields = {} if name is None else {"name": name}
        return json.dumps({**fields, **json_fields(transcript, tokens)}, ensure_ascii=False) + "\n"
    if form == "ctm":
        words = ((word.start, word.end, word.word, word.confidence) for word in transcript.words)
        return "".join(ctm_line(label, *word) for word in words)
    return to_srt(transcript) if form == "srt" else to_vtt(transcript)


def json_fields(transcript: Transcript, tokens: Sequence[str]) -> dict[str, Any]:
    """Return what the JSON object of a transcript says: the fields of a stream's last object, and the words.

    Args:
        transcript: what has been recognised.
        tokens: id -> token.
    """
    return {
        "seconds": round(transcript.seconds, DECIMALS),
        "text": transcript.text,
        "final": True,
        "tokens": [tokens[token] for token in transcript.tokens],
        "times": list(transcript.times),
        "words": [
            {
                "word": word.word,
                "start": word.start,
                "end": word.end,
                "confidence": round(word.confidence, DECIMALS),
            }
            for word in transcript.words
        ],
    }


def check_on_one_stream(recordings: Sequence[Recording], form: Form) -> None:
    """Check that the transcripts of all recordings can stand one after the other.

    Raises:
        UserError: a file of the format holds one recording, or two recordings would have the same label.
    """
    if form in SUBTITLES and len(recordings) > 1:
        raise UserError(f"--format {form}: a file has one recording; name a folder for the files by --out")
    if form == "ctm":
        transcript_names([Recording(item.path, PurePath(item.label)) for item in recordings], _ENDINGS[form])


def files_for(recordings: Sequence[Recording], form: Form, out: Path, overwrite: bool = False) -> list[Path]:
    """Return the file for the transcript of each recording, and create the folder for them.

    Args:
        recordings: what is to be transcribed.
        form: the format.
        out: the folder; folders of recordings keep their layout below it.
        overwrite: whether files may exist.

    Raises:
        UserError: two recordings would have the same file, a file exists already, or the folder cannot be written.
    """
    files = [out / name for name in transcript_names(recordings, _ENDINGS[form])]
    existing = [file for file in files if file.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} others" if len(existing) > 1 else ""
        raise UserError(f"{existing[0]}{more}: exists already; name another folder, or add --overwrite")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is no folder; name another one by --out")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    return files
