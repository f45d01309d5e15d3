"""Recognises audio with sherpa-onnx, in a process of its own: ``python -m slimasr.export.check.worker < job.json``.

sherpa-onnx ends the process when it refuses a model, so this module is run by `slimasr.export.check.runtime`, never
imported by it. It needs numpy and sherpa-onnx alone, so that the memory of the process is that of a client.

Standard input has one JSON object, the job::

    {"kind": "transducer" | "ctc" | "streaming", "files": {"encoder": ..., "decoder": ..., "joiner": ...},
     "tokens": ..., "sample_rate": 16000, "num_mel_bins": 80, "provider": "cpu", "graph": "",
     "max_active": 3000, "model_type": ...,
     "samples": <file of float32 samples, utterance behind utterance>, "lengths": [16000, ...],
     "tail_seconds": 0.0, "piece_seconds": 0.1,
     "runs": [{"method": "greedy_search", "paths": 4, "threads": 1, "batch": 1}, ...]}

Standard output gets one JSON object a line: ``{"run": i}``, ``{"loaded": seconds, "before": bytes}``,
``{"begin": [utterance, ...]}`` and ``{"found": [{"text": ..., "tokens": [...]}, ...], "seconds": ...}`` for every
batch, and ``{"end": i, "peak": bytes}``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sherpa_onnx

Job = dict[str, Any]
STATUS = Path("/proc/self/status")


def main() -> None:
    """Do the job of standard input."""
    job = json.load(sys.stdin)
    for number, run in enumerate(job["runs"]):
        _say({"run": number})
        # Linux counts memory in parts that it adds up now and then, so a later figure may be a little smaller.
        before = peak_bytes()
        _do(job, run, before)
        _say({"end": number, "peak": max(before, peak_bytes())})


def _do(job: Job, run: Job, before: int) -> None:
    """Recognise every utterance with one recogniser; ``before`` is the peak of memory until now."""
    start = time.perf_counter()
    recognizer = _online(job, run) if job["kind"] == "streaming" else _offline(job, run)
    _say({"loaded": time.perf_counter() - start, "before": before})
    search = _search_online if job["kind"] == "streaming" else _search_offline
    numbers = range(len(job["lengths"]))
    for first in range(0, len(numbers), run["batch"]):
        part = numbers[first : first + run["batch"]]
        _say({"begin": list(part)})
        # Read beforehand, so that the time is that of features, encoder and search.
        audio = [_samples(job, number) for number in part]
        start = time.perf_counter()
        found = search(recognizer, job, audio)
        _say({"found": found, "seconds": time.perf_counter() - start})


def _offline(job: Job, run: Job) -> Any:
    """Open a recogniser of whole utterances."""
    common = {
        "tokens": job["tokens"],
        "num_threads": run["threads"],
        "sample_rate": job["sample_rate"],
        "feature_dim": job["num_mel_bins"],
        "decoding_method": run["method"],
        "provider": job["provider"],
    }
    if job["kind"] == "ctc":
        model = job["files"]["encoder"]
        graph = {"ctc_graph": job["graph"], "ctc_max_active": job["max_active"]}
        return sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(model=model, **graph, **common)
    return sherpa_onnx.OfflineRecognizer.from_transducer(
        **job["files"], model_type=job["model_type"], max_active_paths=run["paths"], **common
    )


def _online(job: Job, run: Job) -> Any:
    """Open a recogniser of streams."""
    return sherpa_onnx.OnlineRecognizer.from_transducer(
        **job["files"],
        tokens=job["tokens"],
        num_threads=run["threads"],
        sample_rate=job["sample_rate"],
        feature_dim=job["num_mel_bins"],
        decoding_method=run["method"],
        max_active_paths=run["paths"],
        provider=job["provider"],
    )


def _search_offline(recognizer: Any, job: Job, audio: Sequence[np.ndarray]) -> list[Job]:
    """Recognise a batch of whole utterances."""
    streams = []
    for samples in audio:
        stream = recognizer.create_stream()
        stream.accept_waveform(job["sample_rate"], samples)
        streams.append(stream)
    recognizer.decode_streams(streams)
    # With a graph, a result has the numbers of words.
    return [
        {"text": stream.result.text, "tokens": list(stream.result.tokens), "words": list(stream.result.words)}
        for stream in streams
    ]


def _search_online(recognizer: Any, job: Job, audio: Sequence[np.ndarray]) -> list[Job]:
    """Recognise a batch of streams, fed piece by piece and followed by silence, as clients do."""
    rate = job["sample_rate"]
    tail = np.zeros(round(job["tail_seconds"] * rate), dtype=np.float32)
    streams = [recognizer.create_stream() for _ in audio]
    feeds = [_pieces(np.concatenate([samples, tail]), round(job["piece_seconds"] * rate)) for samples in audio]
    open_feeds = list(zip(streams, feeds, strict=True))
    while open_feeds:
        left = []
        for stream, feed in open_feeds:
            piece = next(feed, None)
            if piece is None:
                stream.input_finished()
            else:
                stream.accept_waveform(rate, piece)
                left.append((stream, feed))
        open_feeds = left
        while ready := [stream for stream in streams if recognizer.is_ready(stream)]:
            recognizer.decode_streams(ready)
    return [
        {"text": recognizer.get_result(stream), "tokens": list(recognizer.tokens(stream)), "words": []}
        for stream in streams
    ]


def _pieces(samples: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Yield samples in pieces of a length; the last one may be shorter."""
    for start in range(0, len(samples), length):
        yield samples[start : start + length]


def _samples(job: Job, number: int) -> np.ndarray:
    """Read the samples of an utterance."""
    lengths = job["lengths"]
    item = np.dtype(np.float32).itemsize
    return np.fromfile(job["samples"], np.float32, lengths[number], offset=item * sum(lengths[:number]))


def peak_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    # What `getrusage` reports on Linux includes the process that started this one.
    if STATUS.is_file():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _say(event: Job) -> None:
    """Print an event at once, so that the last one is known if the process ends."""
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    main()
