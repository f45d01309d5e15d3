"""Runs sherpa-onnx in a process of its own, and says what became of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from slimasr.errors import UserError
from slimasr.export.check.audio import Heard

WORKER = "slimasr.export.check.worker"
Kind = Literal["transducer", "ctc", "streaming"]
Method = Literal["greedy_search", "modified_beam_search"]
_UNKNOWN = "it said nothing"
_EXCEPTION = re.compile(r"\w+(Error|Exception): ")


@dataclass(frozen=True)
class Run:
    """One way of recognising all utterances.

    Attributes:
        method: sherpa-onnx's name of the search.
        paths: number of hypotheses of modified beam search.
        threads: threads of the runtime.
        batch: utterances that are recognised together.
    """

    method: Method = "greedy_search"
    paths: int = 4
    threads: int = 1
    batch: int = 1

    def __str__(self) -> str:
        together = "one by one" if self.batch == 1 else f"batches of {self.batch}"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.method}, {together}, {threads}"


@dataclass(frozen=True)
class Client:
    """What a client gives to sherpa-onnx to open one size of a bundle.

    Attributes:
        kind: which recogniser loads it.
        files: name of the argument -> file; a CTC model has ``encoder`` alone.
        tokens: the table of tokens.
        sample_rate: of the audio, in Hz.
        num_mel_bins: number of filters.
        graph: the search graph of a CTC model, None = greedy search.
        max_active: states of the search in a graph at a frame.
        model_type: ``transducer`` as Python's default, or empty as in other languages, where the encoder says it.
        tail_seconds: silence that follows each stream.
        provider: sherpa-onnx's name of what executes the model.
    """

    kind: Kind
    files: Mapping[str, Path]
    tokens: Path
    sample_rate: int = 16000
    num_mel_bins: int = 80
    graph: Path | None = None
    max_active: int = 3000
    model_type: str = "transducer"
    tail_seconds: float = 0.0
    provider: str = "cpu"


@dataclass(frozen=True)
class Said:
    """What sherpa-onnx has recognised of an utterance.

    Attributes:
        text: the text.
        tokens: the tokens, as sherpa-onnx writes them.
        words: numbers of words, of a search in a graph alone.
    """

    text: str
    tokens: tuple[str, ...]
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Ran:
    """What a run found and took.

    Attributes:
        run: how it recognised.
        said: by utterance, in the order of the audio.
        load_seconds: opening of the recogniser.
        seconds: features, encoder and search of all utterances.
        peak_bytes: largest resident memory of the process, this run and earlier ones of the process included.
        before_bytes: the same before the recogniser was opened.
    """

    run: Run
    said: tuple[Said, ...]
    load_seconds: float
    seconds: float
    peak_bytes: int
    before_bytes: int


def recognize(client: Client, audio: Sequence[Heard], runs: Sequence[Run]) -> list[Ran]:
    """Recognise utterances with sherpa-onnx, once for every run, in one process.

    Args:
        client: the model.
        audio: the utterances.
        runs: how to recognise them. The first one tells load time and memory best.

    Raises:
        UserError: sherpa-onnx is not installed, or its process ended before its work was done; the message names the
            encoder, the run, the utterances, the status and what the process printed last.
    """
    with TemporaryDirectory(prefix="slimasr-") as temporary:
        samples = Path(temporary) / "samples.f32"
        with open(samples, "wb") as file:
            for heard in audio:
                file.write(np.ascontiguousarray(heard.samples, dtype=np.float32).tobytes())
        job = _job(client, [len(heard.samples) for heard in audio], samples, runs)
        command = [sys.executable, "-m", WORKER]
        done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, errors="replace")
    events = _events(done.stdout)
    if done.returncode != 0:
        raise UserError(_failure(client, audio, runs, events, done))
    return _ran(events, runs)


def _job(client: Client, lengths: Sequence[int], samples: Path, runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "kind": client.kind,
        "files": {name: str(path) for name, path in client.files.items()},
        "tokens": str(client.tokens),
        "sample_rate": client.sample_rate,
        "num_mel_bins": client.num_mel_bins,
        "provider": client.provider,
        "graph": "" if client.graph is None else str(client.graph),
        "max_active": client.max_active,
        "model_type": client.model_type,
        "samples": str(samples),
        "lengths": list(lengths),
        "tail_seconds": client.tail_seconds,
        "piece_seconds": 0.1,
        "runs": [asdict(run) for run in runs],
    }


def _events(text: str) -> list[dict[str, Any]]:
    """Parse the lines of the worker; sherpa-onnx may print others, and the last one may be cut."""
    events = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def _ran(events: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> list[Ran]:
    """Put the events of a complete job together."""
    results = []
    opened: Mapping[str, Any] = {}
    said: list[Said] = []
    seconds = 0.0
    for event in events:
        if "run" in event:
            said, seconds = [], 0.0
        elif "loaded" in event:
            opened = event
        elif "found" in event:
            seconds += event["seconds"]
            said += [Said(one["text"].strip(), tuple(one["tokens"]), tuple(one["words"])) for one in event["found"]]
        elif "end" in event:
            run = runs[event["end"]]
            results.append(Ran(run, tuple(said), opened["loaded"], seconds, event["peak"], opened["before"]))
    return results


def _failure(
    client: Client,
    audio: Sequence[Heard],
    runs: Sequence[Run],
    events: Sequence[Mapping[str, Any]],
    done: subprocess.CompletedProcess[str],
) -> str:
    """Describe how the process ended, what it was doing, and what it said last."""
    said = last_words(done.stderr)
    if "No module named 'sherpa_onnx'" in said:
        return "sherpa-onnx is not installed: pip install 'slimasr[export]'"
    started = [event["run"] for event in events if "run" in event]
    doing = f"{runs[started[-1]]}, " if started else ""
    place = "while it loaded the model"
    for event in events:
        if "begin" in event:
            names = [audio[number].name for number in event["begin"]]
            place = f"at {names[0]}" if len(names) == 1 else f"at {names[0]} to {names[-1]}"
        elif "run" in event:
            place = "while it loaded the model"
    encoder = client.files["encoder"]
    return f"{encoder}: sherpa-onnx ended with {status(done.returncode)} {place} ({doing}last line: {said})"


def last_words(text: str) -> str:
    """Return the last line of an output; the message of an exception of Python may go on behind its first line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    exceptions = [line for line in lines if _EXCEPTION.match(line)]
    return (exceptions or lines or [_UNKNOWN])[-1]


def status(code: int) -> str:
    """Name the status of a process: its number, or the signal that ended it."""
    if code >= 0:
        return f"status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
