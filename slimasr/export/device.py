#!/usr/bin/env python3
"""Runs the bundle in whose folder it lies: recognises speech, measures all sizes, chooses one, checks the files.

    python run.py transcribe a.wav                          the text, by the largest size
    python run.py profile --json phone.json                 speed, memory and bytes of every size on this machine
    python run.py choose --max-rtf 0.05 --max-memory-mb 40  the size of lowest WER within limits
    python run.py verify                                    whether the files are as they were written

It needs Python 3.9 or newer, numpy, and onnxruntime 1.15 or newer; in slimasr it is the module `slimasr.export.device`.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import itertools
import json
import math
import platform
import re
import subprocess
import sys
import time
import wave
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 1
KEYS = {"kind", "model", "audio", "tokens", "vocab_size", "blank_id", "unk_id", "streaming", "sizes", "files"}
LIMITS = {"max_rtf": "rtf", "max_memory_mb": "peak_mb", "max_mb": "mb", "max_latency_ms": "encoder_ms"}
COLUMNS = ("size", "precision", "threads", "load_ms", "encoder_ms_per_second", "rtf", "rtf_p90", "peak_mb", "mb")


class BundleError(Exception):
    """An error that the user can correct: one line that names the file and says what to do."""


@dataclass(frozen=True)
class Bundle:
    """The folder of a bundle, and its manifest (docs/bundle.md describes the fields)."""

    folder: Path
    manifest: dict[str, Any]

    def size(self, name: str | None = None) -> dict[str, Any]:
        """Return the entry of a size; None = the largest one."""
        sizes: list[dict[str, Any]] = self.manifest["sizes"]
        for size in sizes:
            if name in (None, size["id"]):
                return size
        raise BundleError(f"{self.folder} has no size {name!r}: name one of {', '.join(size['id'] for size in sizes)}")

    def files(self, size: dict[str, Any], precision: str) -> dict[str, Path]:
        """Return the files that run a size in ``float`` or ``int8``, by their role."""
        if size[precision] is None:
            raise BundleError(f"{self.folder}: {size['id']} was not exported in {precision}: name another size")
        names = {role: self.manifest[role] for role in ("tokens", "features", "decoder", "joiner")}
        names.update({role: size[precision][role] for role in ("encoder", "weights")})
        if precision == "int8" and self.manifest["joiner_int8"]:
            names["joiner"] = self.manifest["joiner_int8"]
        return {role: self.folder / name for role, name in names.items() if name}

    def tokens(self) -> list[str]:
        """Read tokens.txt: id -> piece."""
        path, size = self.folder / self.manifest["tokens"], self.manifest["vocab_size"]
        try:
            # Pieces may hold other white space.
            rows = [row.rsplit(" ", 1) for row in path.read_text(encoding="utf-8").split("\n") if row]
            found = {int(number): piece for piece, number in rows}
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read ({reason(error)}): copy it from the bundle again") from None
        if len(rows) != size or sorted(found) != list(range(size)):
            raise BundleError(f"{path} has {len(rows)} lines, not one for each id below {size}: copy it again")
        return [found[number] for number in range(size)]


def open_bundle(folder: Path) -> Bundle:
    """Read the manifest of a bundle."""
    manifest = read_json(folder / "manifest.json", "slimasr-bundle")
    if not manifest.keys() >= KEYS or not manifest["sizes"]:
        raise BundleError(f"{folder / 'manifest.json'} is incomplete: copy it from the bundle again")
    return Bundle(folder, manifest)


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """Read a file of a kind and version that this program knows."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known, version = found["format"] == kind, found["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is no {kind} ({reason(error)}): name another, or copy it again") from None
    if not known or version > VERSION:
        raise BundleError(f"{path} is no {kind} of version {VERSION}: use the run.py that came with it")
    return found


def reason(error: Exception) -> str:
    """Return the first line of an error of another library."""
    return f"{type(error).__name__}: {str(error).strip()[:200]}".split("\n")[0]


def runtime() -> Any:
    """Import onnxruntime, without which files can still be compared."""
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        raise BundleError("onnxruntime is not installed: python -m pip install onnxruntime") from None


class Session:
    """An ONNX file in onnxruntime; inputs and outputs are arrays, in the order of the file."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Open the file."""
        self.path, library = path, runtime()
        options = library.SessionOptions()
        options.intra_op_num_threads = threads
        # Errors are raised; what is logged besides is not for users.
        options.log_severity_level = 4
        try:
            self.session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            new = re.search("IR version|opset", str(error))
            remedy = "upgrade onnxruntime" if new else "run.py verify finds the wrong file"
            raise BundleError(f"{path} does not open ({reason(error)}): {remedy}") from None
        self.names = [value.name for value in self.session.get_inputs()]
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def run(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run the file."""
        try:
            out: list[np.ndarray] = self.session.run(None, dict(zip(self.names, arrays)))
        except Exception as error:
            raise BundleError(f"{self.path} does not run ({reason(error)}): copy it from the bundle again") from None
        return out


@dataclass(frozen=True)
class Result:
    """What was recognised: the text, the ids of its tokens, and for each token the encoder frame that emitted it."""

    text: str = ""
    tokens: tuple[int, ...] = ()
    frames: tuple[int, ...] = ()


class Recognizer:
    """One size of a bundle in onnxruntime. Its search emits at most one token per frame, as that of sherpa-onnx."""

    def __init__(self, bundle: Bundle, size: str | None = None, int8: bool = False, threads: int = 1) -> None:
        """Open the files of a size (None = the largest one); ``threads`` are those of the encoder."""
        self.bundle, self.manifest, self.threads, self.pieces = bundle, bundle.manifest, threads, bundle.tokens()
        self.rate = self.manifest["audio"]["sample_rate"]
        files = bundle.files(bundle.size(size), "int8" if int8 else "float")
        self.extractor = Session(files["features"])
        self.decoder = Session(files["decoder"]) if "decoder" in files else None
        self._open_encoder(files)

    def at(self, size: str | None = None, int8: bool = False) -> Recognizer:
        """Return a recogniser of another size that shares features and decoder with this one."""
        other = copy.copy(self)
        other._open_encoder(self.bundle.files(self.bundle.size(size), "int8" if int8 else "float"))
        return other

    def _open_encoder(self, files: dict[str, Path]) -> None:
        # Another bundle's weights would run and give wrong text.
        problem = next(filter(None, (file_problem(self.bundle, path.name, False) for path in files.values())), None)
        if problem:
            raise BundleError(problem)
        self.encoder = Session(files["encoder"], self.threads)
        self.joiner = Session(files["joiner"]) if "joiner" in files else None

    def features(self, samples: np.ndarray) -> np.ndarray:
        """(S,) samples in [-1, 1] -> (T, F) log-mel features, T > 0; those of a stream end with silence, its tail."""
        shift = int(self.rate * self.manifest["audio"]["frame_shift"] + 1e-6)
        tail = self.manifest["streaming"]["tail_seconds"] if self.manifest["streaming"] else 0.0
        # Audio shorter than a frame counts as silence.
        samples = np.pad(samples if len(samples) >= shift else np.zeros(shift), (0, round(tail * self.rate)))
        features: np.ndarray = self.extractor.run(samples[np.newaxis].astype(np.float32))[0][0]
        return features

    def encode(self, features: np.ndarray) -> np.ndarray:
        """(T, F) features of an utterance -> (T', J) input of the joiner, or (T', V) scores of a CTC model."""
        if self.manifest["streaming"]:
            return np.concatenate(list(self.chunks(features)))
        out, lens = self.encoder.run(features[np.newaxis], np.array([len(features)]))
        encoded: np.ndarray = out[0, : int(lens[0])]
        return encoded

    def chunks(self, features: np.ndarray) -> Iterator[np.ndarray]:
        """Encode (T, F) features with a streaming model; the end, which fills no chunk, is dropped."""
        streaming = self.manifest["streaming"]
        window, states = streaming["window_frames"], [np.zeros(s, np.float32) for s in streaming["states"]]
        # As sherpa-onnx, which waits until there are more frames than it feeds.
        for first in range(0, len(features) - window, streaming["chunk_frames"]):
            processed = [np.array([first])] if streaming["carrier"] == "conformer" else []
            out, *states = self.encoder.run(features[np.newaxis, first : first + window], *states, *processed)
            yield out[0]

    def emissions(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[int, int]]:
        """Search encoder frames greedily as they come; yields a token and the number of the frame that emits it."""
        blank = last = self.manifest["blank_id"]
        context = [-1] * ((self.manifest["context_size"] or 1) - 1) + [blank]
        out = self.decoder.run(np.array([context]))[0] if self.decoder else np.zeros(0)
        for number, frame in enumerate(frames):
            label = int((self.joiner.run(frame[np.newaxis], out)[0] if self.joiner else frame).argmax())
            # A CTC model repeats a token while it lasts.
            if label not in (blank, self.manifest["unk_id"]) and (self.joiner or label != last):
                yield label, number
                context = [*context[1:], label]
                out = self.decoder.run(np.array([context]))[0] if self.decoder else out
            last = label

    def search(self, encoded: Iterable[np.ndarray]) -> Result:
        """Search the encoder frames of an utterance."""
        return self.result(self.emissions(encoded))

    def transcribe(self, samples: np.ndarray) -> Result:
        """Recognise (S,) samples in [-1, 1] at the bundle's rate."""
        return self.search(self.encode(self.features(samples)))

    def stream(self, samples: np.ndarray) -> Iterator[Result]:
        """Recognise samples chunk by chunk with a streaming model; yields what is known after each token."""
        found: list[tuple[int, int]] = []
        for emission in self.emissions(itertools.chain.from_iterable(self.chunks(self.features(samples)))):
            found.append(emission)
            yield self.result(found)

    def result(self, emissions: Iterable[tuple[int, int]]) -> Result:
        """Give emissions their text: pieces of SentencePiece spell it, ``<0xE4>`` is a byte of it; phonemes do not."""
        found = tuple(emissions)
        pieces = [self.pieces[token] for token, _ in found if self.pieces[token] != "<sos/eos>"]
        parts = [bytes.fromhex(p[3:5]) if re.fullmatch("<0x..>", p) else p.encode() for p in pieces]
        spelt = any("\u2581" in piece for piece in self.pieces)
        text = (b"" if spelt else b" ").join(parts).decode("utf-8", "replace").replace("\u2581", " ").strip()
        return Result(text, tuple(token for token, _ in found), tuple(frame for _, frame in found))


def read_wav(path: Path, rate: int) -> np.ndarray:
    """Read a WAV file of integers at a rate in Hz as (S,) float32 samples in [-1, 1]; channels are averaged."""
    remedy = f"ffmpeg -i FILE -ar {rate} -c:a pcm_s16le new.wav"
    try:
        with wave.open(str(path)) as file:
            channels, width, found, length = file.getparams()[:4]
            content = np.frombuffer(file.readframes(length), np.uint8)
    except (OSError, EOFError, wave.Error) as error:
        raise BundleError(f"{path} is no WAV file of integers ({reason(error)}): {remedy}") from None
    if found != rate:
        raise BundleError(f"{path} has {found} Hz, the bundle needs {rate}: {remedy}")
    if not length or len(content) != length * channels * width:
        raise BundleError(f"{path} {'is truncated' if length else 'holds no samples'}: record or copy it again")
    # Narrow integers become the upper bytes of wide ones; those of one byte have no sign.
    wide = np.zeros((length * channels, 4), np.uint8)
    wide[:, 4 - width :] = content.reshape(-1, width)
    wide[:, 3] ^= 128 if width == 1 else 0
    mono: np.ndarray = (wide.view("<i4")[:, 0] / 2.0**31).reshape(-1, channels).mean(axis=1)
    return mono.astype(np.float32)


def peak_memory(anew: bool = False) -> float | None:
    """Return the peak of resident memory in MB, on Linux counted ``anew`` from now; None where it is not known."""
    with contextlib.suppress(OSError):
        if anew:
            Path("/proc/self/clear_refs").write_text("5")
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    with contextlib.suppress(ModuleNotFoundError):
        resource: Any = importlib.import_module("resource")
        peak: float = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
    return None


def measure(
    bundle: Bundle, size: str, precision: str, threads: int, audio: Sequence[str], repeats: int
) -> dict[str, Any]:
    """Measure a size in this process, which has not run anything else; returns a row of a profile, and ``seconds``."""
    rate, entry = bundle.manifest["audio"]["sample_rate"], bundle.size(size)
    noise = np.random.default_rng(0).normal(0.0, 0.05, 10 * rate).astype(np.float32)
    utterances = [read_wav(Path(path), rate) for path in audio] or [noise]
    seconds = np.array([len(samples) / rate for samples in utterances])
    runtime()
    memory, start = peak_memory(anew=True), time.perf_counter()
    recognizer = Recognizer(bundle, size, precision == "int8", threads)
    load = time.perf_counter() - start
    marks = np.zeros((4, repeats + 1, len(utterances)))
    for turn, number in np.ndindex(*marks.shape[1:]):
        value: Any = utterances[number]
        marks[0, turn, number] = time.perf_counter()
        for step, verb in enumerate((recognizer.features, recognizer.encode, recognizer.search), start=1):
            value = verb(value)
            marks[step, turn, number] = time.perf_counter()
    # The first turn warms up.
    encoder, whole = (marks[2] - marks[1])[1:], (marks[3] - marks[0])[1:]
    peak = peak_memory()
    return {
        **{"size": size, "subnet": entry["subnet"], "precision": precision, "threads": threads, "load_ms": load * 1e3},
        "encoder_ms": float(np.median(encoder)) * 1e3,
        "encoder_ms_per_second": float(np.median(encoder.sum(axis=1)) / seconds.sum()) * 1e3,
        "rtf": float(np.median(whole.sum(axis=1)) / seconds.sum()),
        "rtf_p90": float(np.quantile(whole / seconds, 0.9)),
        "peak_mb": None if peak is None or memory is None else peak - memory,
        "bytes": entry[precision]["bytes"],
        "seconds": seconds.tolist(),
    }


def profile(
    bundle: Bundle,
    sizes: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int],
    audio: Sequence[str],
    repeats: int,
) -> dict[str, Any]:
    """Measure sizes (none given = all) on this machine, each in a process of its own; docs/bundle.md has the layout."""
    rows = []
    chosen = [bundle.size(name) for name in sizes] or bundle.manifest["sizes"]
    for size, precision, count in itertools.product(chosen, precisions, threads):
        if size[precision] is None:
            continue
        options = ["--size", size["id"], "--threads", count, "--repeats", repeats, "--bundle", bundle.folder, *audio]
        command = [sys.executable, __file__, "profile", "--here", precision, *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().split("\n")[-1] or f"its process ended with status {done.returncode}"
            raise BundleError(f"{size['id']} in {precision}: {said}")
        rows.append(json.loads(done.stdout))
    if not rows:
        raise BundleError(f"{bundle.folder} was not exported in {' or '.join(precisions)}: name another precision")
    heard = {"source": " ".join(audio) or "noise", "seconds": [row.pop("seconds") for row in rows][0]}
    head = {"format": "slimasr-profile", "version": VERSION, "model": bundle.manifest["model"], "machine": machine()}
    return {**head, "audio": heard, "rows": rows}


def machine() -> dict[str, str]:
    """Describe this machine."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, IndexError):
        processor = Path("/proc/cpuinfo").read_text().split("model name")[1].split("\n")[0].strip("\t :")
    names = {"name": platform.node(), "processor": processor, "system": platform.platform()}
    return {**names, "python": platform.python_version(), "onnxruntime": runtime().__version__}


def choose(
    bundle: Bundle, rows: Iterable[dict[str, Any]], limits: dict[str, float], set_name: str
) -> tuple[dict[str, Any], list[str]]:
    """Choose the row of lowest WER on a set, or of most parameters where no WER is known, within limits of columns.

    Returns the row, and the columns whose limits it misses: if no row keeps all, it exceeds them least.
    """

    def order(row: dict[str, Any]) -> tuple[float, ...]:
        # What is not known keeps no limit.
        excess = [math.inf if row[key] is None else row[key] / most for key, most in limits.items()]
        return max([1.0, *excess]), known_wer(bundle, row, set_name), -bundle.size(row["size"])["params"], row["bytes"]

    best = min(({**row, "mb": row["bytes"] / 1e6} for row in rows), key=order)
    return best, [key for key, most in limits.items() if best[key] is None or best[key] > most]


def known_wer(bundle: Bundle, row: dict[str, Any], set_name: str) -> float:
    """Return the WER of a row in percent; infinity if it was not measured."""
    return float((bundle.size(row["size"])[row["precision"]]["wer"] or {}).get(set_name, math.inf))


def table(bundle: Bundle, rows: Iterable[dict[str, Any]]) -> str:
    """Format rows of a profile, with parameters and WER of the manifest."""
    lines = [[*COLUMNS, "params", "WER"]]
    for row in rows:
        size, cells = bundle.size(row["size"]), {**row, "mb": row["bytes"] / 1e6}
        shown = [f"{cells[key]:.4g}" if isinstance(cells[key], float) else str(cells[key]) for key in COLUMNS]
        wer = [f"{name} {value:.1f}" for name, value in (size[row["precision"]]["wer"] or {}).items()]
        lines.append([*shown, str(size["params"]), ", ".join(wer)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)


def file_problem(bundle: Bundle, name: str, whole: bool = True) -> str | None:
    """Compare a file with its bytes in the manifest and, if ``whole``, its sha256; the line names the remedy."""
    path, recorded = bundle.folder / name, bundle.manifest["files"].get(name)
    if recorded is None or not path.is_file():
        return f"{path} is {'not listed in manifest.json' if path.is_file() else 'missing'}: copy the bundle again"
    if path.stat().st_size != recorded["bytes"]:
        return f"{path} has {path.stat().st_size} bytes, not {recorded['bytes']}: copy it from the bundle again"
    if whole and hashlib.sha256(path.read_bytes()).hexdigest() != recorded["sha256"]:
        return f"{path} was altered or belongs to another bundle: copy it from the bundle again"
    return None


def verify(folder: Path) -> list[str]:
    """Check all files of a bundle, run every size, and return a line for each problem, with its remedy."""
    try:
        bundle = open_bundle(folder)
        runs = [(size, kind) for size in bundle.manifest["sizes"] for kind in ("float", "int8") if size[kind]]
        used = {path.name: None for size, kind in runs for path in bundle.files(size, kind).values()}
        problems = list(filter(None, (file_problem(bundle, name) for name in {**bundle.manifest["files"], **used})))
        # What opens damaged files may end without a message.
        for size, kind in runs if not problems else []:
            problems += model_problems(Recognizer(bundle, size["id"], kind == "int8"), size)
    except BundleError as error:
        return [str(error)]
    return list(dict.fromkeys(problems))


def model_problems(recognizer: Recognizer, size: dict[str, Any]) -> list[str]:
    """Run a size on a second of silence, and compare its metadata and shapes with the manifest."""
    manifest, encoder, decoder = recognizer.manifest, recognizer.encoder, recognizer.decoder
    wanted = [(encoder, "subnet", size["subnet"])]
    if manifest["streaming"]:
        wanted += [(encoder, "T", manifest["streaming"]["window_frames"])]
        wanted += [(encoder, "decode_chunk_len", manifest["streaming"]["chunk_frames"])]
    if decoder:
        wanted += [(decoder, key, manifest[key]) for key in ("vocab_size", "context_size")]
    found = [(session.path, key, session.metadata.get(key, "null"), value) for session, key, value in wanted]
    problems = [f"{p}: its {k} is {t}, not {v}: export again" for p, k, t, v in found if json.loads(t) != v]
    encoded = recognizer.encode(recognizer.features(np.zeros(recognizer.rate)))
    scores = encoded if recognizer.joiner is None else recognizer.joiner.run(encoded, np.zeros_like(encoded))[0]
    if not np.isfinite(scores).all() or scores.shape[-1] != manifest["vocab_size"]:
        problems.append(f"{encoder.path}: its scores are not those of {manifest['vocab_size']} tokens: export again")
    recognizer.search(encoded)
    return problems
