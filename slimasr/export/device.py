#!/usr/bin/env python3
"""Runs the bundle in whose folder it lies.

    python run.py transcribe a.wav                          the text, by the largest size
    python run.py profile --json phone.json                 speed, memory and bytes of every size on this machine
    python run.py choose --max-rtf 0.05 --max-memory-mb 40  the size of lowest WER within limits
    python run.py verify                                    whether the files are as they were written

It needs Python 3.9 or newer, numpy, and onnxruntime 1.15 or newer; in slimasr it is the module `slimasr.export.device`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import itertools
import json
import platform
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

VERSION = 1
PRECISIONS = ("float", "int8")
ROLES = ("encoder", "weights", "decoder", "joiner", "tokens", "features")
KEYS = ("kind", "model", "audio", "tokens", "vocab_size", "blank_id", "unk_id", "streaming", "sizes", "files")
LIMITS = {"max_rtf": "rtf", "max_memory_mb": "peak_mb", "max_mb": "mb", "max_latency_ms": "encoder_ms"}
COLUMNS = "size precision threads load_ms encoder_ms_per_second rtf rtf_p90 peak_mb mb params wer".split()


class BundleError(Exception):
    """An error that the user can correct: one line that names the file and says what to do."""


class Bundle(NamedTuple):
    """The folder of a bundle, and its manifest (docs/bundle.md describes the fields)."""

    folder: Path
    manifest: dict[str, Any]

    def size(self, name: str | None = None) -> dict[str, Any]:
        """Return the entry of a size; None = the largest one."""
        sizes: dict[str, dict[str, Any]] = {size["id"]: size for size in self.manifest["sizes"]}
        if name not in (None, *sizes):
            raise BundleError(f"{self.folder} has no size {name}: name one of {', '.join(sizes)}")
        return sizes[name or next(iter(sizes))]

    def files(self, size: dict[str, Any], int8: bool = False) -> dict[str, Path]:
        """Return the files that run a size, by their role; their bytes are those of the manifest."""
        entry = size[PRECISIONS[int8]]
        if entry is None:
            raise BundleError(f"{self.folder}: {size['id']} was not exported in {PRECISIONS[int8]}: name another size")
        own = {"encoder": entry["encoder"], "weights": entry["weights"], "decoder": size.get("decoder")}
        own["joiner"] = size.get("joiner") or (self.manifest["joiner_int8"] if int8 else None)
        names = {role: own.get(role) or self.manifest.get(role) for role in ROLES}
        return {role: self.checked(name) for role, name in names.items() if name}

    def checked(self, name: str, whole: bool = False) -> Path:
        """Return a file if its number of bytes and, with ``whole``, its sha256 are those of the manifest."""
        path, recorded = self.folder / name, self.manifest["files"].get(name)
        if not path.is_file() or recorded is None:
            raise BundleError(f"{path} is missing, here or in manifest.json: copy the whole bundle again")
        if path.stat().st_size != recorded["bytes"]:
            raise BundleError(f"{path} has {path.stat().st_size} bytes, not {recorded['bytes']}: copy it again")
        if whole and hashlib.sha256(path.read_bytes()).hexdigest() != recorded["sha256"]:
            raise BundleError(f"{path} was altered, or belongs to another bundle: copy it again")
        return path

    def pieces(self) -> list[str]:
        """Read tokens.txt: id -> piece."""
        path, ids = (
            self.folder / self.manifest["tokens"],
            [str(number) for number in range(self.manifest["vocab_size"])],
        )
        rows = [row.rpartition(" ") for row in path.read_text("utf-8", "replace").split("\n") if row]
        found = {number: piece for piece, _, number in rows}
        if len(rows) != len(ids) or found.keys() != set(ids):
            raise BundleError(f"{path} has {len(rows)} lines, not one for each id below {len(ids)}: copy it again")
        return [found[number] for number in ids]


def open_bundle(folder: Path) -> Bundle:
    """Read the manifest of a bundle."""
    return Bundle(folder, read_json(folder / "manifest.json", "slimasr-bundle", KEYS))


def read_json(path: Path, kind: str, keys: Sequence[str]) -> dict[str, Any]:
    """Read a file of a kind and version that this program knows; it needs some keys."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        missing = [key for key in ("format", "version", *keys) if key not in found]
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{path} cannot be read ({reason(error)}): name another folder, or copy it again") from None
    if missing or found["format"] != kind:
        raise BundleError(f"{path} is no {kind}, it lacks {', '.join(missing) or kind}: name another, or copy it again")
    if found["version"] > VERSION:
        raise BundleError(
            f"{path} has version {found['version']}, this program reads {VERSION}: use the bundle's run.py"
        )
    return found


def reason(error: Exception) -> str:
    """Return the first line of an error of another library."""
    return f"{type(error).__name__}: {str(error).strip()[:200]}".split("\n")[0]


def runtime() -> Any:
    """Import onnxruntime, without which the files can still be compared with the manifest."""
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        raise BundleError("onnxruntime is not installed: python -m pip install onnxruntime") from None


class Session:
    """An ONNX file in onnxruntime, whose inputs and outputs are arrays in the order of the file."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path, options = path, runtime().SessionOptions()
        options.intra_op_num_threads = threads
        # Errors are raised; what is logged besides is not for users.
        options.log_severity_level = 4
        try:
            self.session = runtime().InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            old = "IR version" in str(error) or "opset" in str(error)
            remedy = "upgrade onnxruntime" if old else "run.py verify finds the wrong file"
            raise BundleError(f"{path} does not open ({reason(error)}): {remedy}") from None
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run the file."""
        try:
            names = [value.name for value in self.session.get_inputs()]
            out: list[np.ndarray] = self.session.run(None, dict(zip(names, arrays)))
        except Exception as error:
            raise BundleError(f"{self.path} does not run ({reason(error)}): copy it again") from None
        return out


class Result(NamedTuple):
    """What was recognised: the text, the ids of its tokens, and for each token the encoder frame that emitted it."""

    text: str
    tokens: tuple[int, ...]
    frames: tuple[int, ...]


class Recognizer:
    """One size of a bundle in onnxruntime. Its search emits at most one token per frame, as that of sherpa-onnx."""

    def __init__(self, bundle: Bundle, size: str | None = None, int8: bool = False, threads: int = 1) -> None:
        """Open the files of a size (None = the largest one); ``threads`` are those of the encoder."""
        self.bundle, self.manifest, self.threads = bundle, bundle.manifest, threads
        self.rate, self.pieces = self.manifest["audio"]["sample_rate"], bundle.pieces()
        self.sessions: dict[str, Session] = {}
        self.switch(size, int8)

    def switch(self, size: str | None = None, int8: bool = False) -> None:
        """Go on with another size: its encoder is opened, and files that are open already stay so."""
        entry = self.bundle.size(size)
        files, known = self.bundle.files(entry, int8), {session.path: session for session in self.sessions.values()}
        models = {role: path for role, path in files.items() if role not in ("tokens", "weights")}
        count = {"encoder": self.threads}
        self.sessions = {role: known.get(path) or Session(path, count.get(role, 1)) for role, path in models.items()}
        self.shapes = entry[PRECISIONS[int8]].get("states")

    def features(self, samples: np.ndarray) -> np.ndarray:
        """(S,) samples in [-1, 1] -> (T, F) log-mel features, T > 0; those of a stream end with silence, its tail."""
        shift = int(self.rate * self.manifest["audio"]["frame_shift"] + 1e-6)
        tail = self.manifest["streaming"]["tail_seconds"] if self.manifest["streaming"] else 0.0
        # Audio shorter than a frame counts as silence.
        samples = np.pad(samples if len(samples) >= shift else np.zeros(shift), (0, round(tail * self.rate)))
        features: np.ndarray = self.sessions["features"](samples[np.newaxis].astype(np.float32))[0][0]
        return features

    def encode(self, features: np.ndarray) -> np.ndarray:
        """(T, F) features of an utterance -> (T', J) input of the joiner, or (T', V) scores of a CTC model."""
        if self.manifest["streaming"]:
            return np.concatenate(list(self.chunks(features)))
        out, lens = self.sessions["encoder"](features[np.newaxis], np.array([len(features)]))
        encoded: np.ndarray = out[0, : int(lens[0])]
        return encoded

    def chunks(self, features: np.ndarray) -> Iterator[np.ndarray]:
        """Encode (T, F) features chunk by chunk with a streaming model; the end, which fills no chunk, is dropped."""
        streaming = self.manifest["streaming"]
        window, states = (
            streaming["window_frames"],
            [np.zeros(shape, np.float32) for shape in self.shapes or streaming["states"]],
        )
        # As sherpa-onnx, which waits until there are more frames than it feeds.
        for first in range(0, len(features) - window, streaming["chunk_frames"]):
            processed = [np.array([first])] if streaming["carrier"] == "conformer" else []
            out, *states = self.sessions["encoder"](features[np.newaxis, first : first + window], *states, *processed)
            yield out[0]

    def search(self, encoded: Iterable[np.ndarray], show: Callable[[str], object] | None = None) -> Result:
        """Search encoder frames greedily as they come, and ``show`` the text after each token."""
        size, blank = self.manifest["context_size"] or 1, self.manifest["blank_id"]
        decoder, joiner = self.sessions.get("decoder"), self.sessions.get("joiner")
        history, frames, last, out = [-1] * (size - 1) + [blank], list[int](), blank, None
        for number, scores in enumerate(encoded):
            if decoder and joiner:
                out = decoder(np.array([history[-size:]]))[0] if out is None else out
                scores = joiner(scores[np.newaxis], out)[0]
            label = int(scores.argmax())
            # A CTC model repeats a token while it lasts.
            if label not in (blank, self.manifest["unk_id"]) and (joiner or label != last):
                history, frames, out = [*history, label], [*frames, number], None
                if show:
                    show(self.text(history[size:]))
            last = label
        return Result(self.text(history[size:]), tuple(history[size:]), tuple(frames))

    def transcribe(self, samples: np.ndarray, show: Callable[[str], object] | None = None) -> Result:
        """Recognise (S,) samples in [-1, 1] at the bundle's rate; see `search`."""
        features = self.features(samples)
        streaming = self.manifest["streaming"]
        return self.search(itertools.chain(*self.chunks(features)) if streaming else self.encode(features), show)

    def text(self, tokens: Iterable[int]) -> str:
        """Join tokens: pieces of SentencePiece spell words, ``<0xE4>`` is a byte of them; phonemes get spaces."""
        pieces = [self.pieces[token] for token in tokens if self.pieces[token] != "<sos/eos>"]
        parts = [bytes([int(p[1:5], 16)]) if p[:3] + p[5:] == "<0x>" else p.encode() for p in pieces]
        between = b"" if any("\u2581" in piece for piece in self.pieces) else b" "
        return between.join(parts).decode("utf-8", "replace").replace("\u2581", " ").strip()


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


def peak_memory() -> float | None:
    """Return the peak of this process's resident memory in MB; None where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    # The figure of other systems includes the process that started this one.
    return importlib.import_module("resource").getrusage(0).ru_maxrss / 1e6 if sys.platform == "darwin" else None


def measure(bundle: Bundle, size: str, int8: bool, threads: int, audio: Sequence[str], repeats: int) -> dict[str, Any]:
    """Measure a size in this process, which has not run anything else; returns a row of a profile, and ``seconds``."""
    rate, entry = bundle.manifest["audio"]["sample_rate"], bundle.size(size)
    noise = np.random.default_rng(0).normal(0.0, 0.05, 10 * rate).astype(np.float32)
    utterances = [read_wav(Path(path), rate) for path in audio] or [noise]
    seconds = np.array([len(samples) / rate for samples in utterances])
    runtime()
    before, start = peak_memory(), time.perf_counter()
    recognizer = Recognizer(bundle, size, int8, threads)
    load, marks = time.perf_counter() - start, np.zeros((4, repeats + 1, len(utterances)))
    for turn, number in np.ndindex(*marks.shape[1:]):
        value: Any = utterances[number]
        verbs: list[Any] = [np.array, recognizer.features, recognizer.encode, recognizer.search]
        for step, verb in enumerate(verbs):
            value = verb(value)
            marks[step, turn, number] = time.perf_counter()
    # The first turn warms up.
    encoder, whole = (marks[2] - marks[1])[1:], (marks[3] - marks[0])[1:]
    return {
        **{"size": size, "subnet": entry["subnet"], "precision": PRECISIONS[int8], "threads": threads},
        "load_ms": load * 1e3,
        "encoder_ms": float(np.median(encoder)) * 1e3,
        "encoder_ms_per_second": float(np.median(encoder.sum(axis=1)) / seconds.sum()) * 1e3,
        "rtf": float(np.median(whole.sum(axis=1)) / seconds.sum()),
        "rtf_p90": float(np.quantile(whole / seconds, 0.9)),
        "peak_mb": None if before is None else (peak_memory() or before) - before,
        "bytes": entry[PRECISIONS[int8]]["bytes"],
        "seconds": seconds.tolist(),
    }


def profile(
    bundle: Bundle, sizes: Sequence[str], threads: Sequence[int], audio: Sequence[str], repeats: int = 5
) -> dict[str, Any]:
    """Measure sizes (none = all) on this machine, each in a process of its own; docs/bundle.md has the layout."""
    chosen, rows = [bundle.size(name) for name in sizes] or bundle.manifest["sizes"], []
    for size, kind, count in itertools.product(chosen, PRECISIONS, threads):
        if size[kind]:
            options = [
                "--size",
                size["id"],
                "--threads",
                count,
                "--repeats",
                repeats,
                "--bundle",
                bundle.folder,
                *audio,
            ]
            command = [sys.executable, __file__, "profile", "--here", kind, *map(str, options)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                said = done.stderr.strip().split("\n")[-1] or f"ended with status {done.returncode}; is memory short?"
                raise BundleError(f"{size['id']} in {kind}: {said}")
            rows.append(json.loads(done.stdout))
    heard = {"source": " ".join(audio) or "noise", "seconds": [row.pop("seconds") for row in rows][0]}
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    processor = info.partition("model name")[2].split("\n")[0].strip("\t :") or platform.processor()
    machine = {"name": platform.node(), "processor": processor, "system": platform.platform()}
    machine.update(python=platform.python_version(), onnxruntime=runtime().__version__)
    head = {"format": "slimasr-profile", "version": VERSION, "model": bundle.manifest["model"]}
    return {**head, "machine": machine, "audio": heard, "rows": rows}


def read_profile(path: Path, bundle: Bundle) -> dict[str, Any]:
    """Read the profile of a bundle of the same sizes; other weights change no times."""
    found = read_json(path, "slimasr-profile", ("model", "rows"))
    if found["model"]["architecture"] != bundle.manifest["model"]["architecture"]:
        raise BundleError(f"{path} is the profile of another bundle: write that of {bundle.folder} by run.py profile")
    return found


def figures(bundle: Bundle, row: dict[str, Any]) -> dict[str, Any]:
    """Add what the manifest knows of a size to a row of a profile."""
    size = bundle.size(row["size"])
    return {**row, "mb": row["bytes"] / 1e6, "params": size["params"], "wer": size[row["precision"]]["wer"] or {}}


def choose(rows: Iterable[dict[str, Any]], limits: dict[str, float], set_name: str) -> tuple[dict[str, Any], list[str]]:
    """Choose the row (see `figures`) of lowest WER on a set, or of most parameters where no WER is known.

    Returns the row, and the columns whose limits it misses: where no row keeps all, it exceeds them least.
    """

    def order(row: dict[str, Any]) -> tuple[float, ...]:
        # What is not known keeps no limit.
        excess = [np.inf if row[key] is None else row[key] / most for key, most in limits.items()]
        return max([1.0, *excess]), row["wer"].get(set_name, np.inf), -row["params"], row["bytes"]

    best = min(rows, key=order)
    return best, [key for key, most in limits.items() if best[key] is None or best[key] > most]


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Format rows (see `figures`)."""
    cells = [[f"{row[k]:.4g}" if isinstance(row[k], float) else str(row[k]) for k in COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *cells)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in [COLUMNS, *cells])


def verify(folder: Path) -> list[str]:
    """Check all files of a bundle, run every size, and return a line for each problem, with its remedy."""
    problems: list[str] = []
    try:
        bundle = open_bundle(folder)
        for name in bundle.manifest["files"]:
            try:
                bundle.checked(name, whole=True)
            except BundleError as error:
                problems.append(str(error))
        # What opens damaged files may end without a message.
        for size, int8 in itertools.product([] if problems else bundle.manifest["sizes"], (False, True)):
            if size[PRECISIONS[int8]]:
                problems += differences(Recognizer(bundle, size["id"], int8), size)
    except BundleError as error:
        problems.append(str(error))
    return list(dict.fromkeys(problems))


def differences(recognizer: Recognizer, size: dict[str, Any]) -> list[str]:
    """Run a size on a second of silence, and compare its metadata and scores with the manifest."""
    manifest, sessions = recognizer.manifest, recognizer.sessions
    wanted = [("encoder", "subnet", size["subnet"])]
    if "decoder" in sessions:
        wanted += [("decoder", key, manifest[key]) for key in ("vocab_size", "context_size")]
    problems = []
    for role, key, value in wanted:
        found = sessions[role].metadata.get(key)
        if found is None or json.loads(found) != value:
            problems.append(f"{sessions[role].path}: its {key} is {found}, not {value}: export again")
    encoded = recognizer.encode(recognizer.features(np.zeros(recognizer.rate)))
    recognizer.search(encoded)
    scores = sessions["joiner"](encoded, np.zeros_like(encoded))[0] if "joiner" in sessions else encoded
    if not np.isfinite(scores).all() or scores.shape[-1] != manifest["vocab_size"]:
        path = sessions["encoder"].path
        problems.append(f"{path}: its scores are not those of {manifest['vocab_size']} tokens: export again")
    return problems


def run_transcribe(bundle: Bundle, args: argparse.Namespace) -> int:
    """Print the text of recordings."""
    if args.stream and not bundle.manifest["streaming"]:
        raise BundleError(f"{bundle.folder} has no streaming model: leave out --stream, or export with --streaming")
    recognizer, failed = Recognizer(bundle, args.size, args.int8, args.threads[0]), 0
    for path in args.wav:
        try:
            samples = read_wav(Path(path), recognizer.rate)
            found = recognizer.transcribe(samples, print if args.stream else None)
            named = f"{path}: {found.text}" if len(args.wav) > 1 else found.text
            print(json.dumps({"name": path, **found._asdict()}, ensure_ascii=False) if args.json else named)
        except BundleError as error:
            failed = 1
            print(f"run.py: {error}", file=sys.stderr)
    return failed


def run_profile(bundle: Bundle, args: argparse.Namespace) -> int:
    """Print a table of all sizes on this machine."""
    if args.here:
        print(json.dumps(measure(bundle, args.size[0], args.here == "int8", args.threads[0], args.wav, args.repeats)))
        return 0
    found = profile(bundle, args.size, args.threads, args.wav, args.repeats)
    print(", ".join(found["machine"].values()))
    print(table(figures(bundle, row) for row in found["rows"]))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def run_choose(bundle: Bundle, args: argparse.Namespace) -> int:
    """Print the files of the best size within limits."""
    limits = {column: getattr(args, name) for name, column in LIMITS.items() if getattr(args, name)}
    found = read_profile(args.profile, bundle) if args.profile else profile(bundle, [], args.threads, args.wav)
    kinds, threads = PRECISIONS[: 1 + args.int8], args.threads[0]
    rows = [figures(bundle, r) for r in found["rows"] if r["precision"] in kinds and r["threads"] == threads]
    if not rows:
        raise BundleError(f"{args.profile} has no row of {threads} threads in {' or '.join(kinds)}: measure it")
    best, missed = choose(rows, limits, args.set)
    print(table([best]))
    for role, path in bundle.files(bundle.size(best["size"]), best["precision"] == "int8").items():
        print(f"--{role}={path}")
    for column in missed:
        print(f"run.py: no size keeps all limits: {column} of the nearest is {best[column]}, above {limits[column]}")
    return 1 if missed else 0


def run_verify(bundle: Bundle, args: argparse.Namespace) -> int:
    """Print the problems of the files."""
    problems = verify(bundle.folder)
    print("\n".join(problems) or f"{bundle.folder} is as it was written")
    return 1 if problems else 0


def main() -> int:
    """Run a command and return its exit status."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("run.py", description=__doc__, formatter_class=style)
    commands = parser.add_subparsers(dest="command", required=True)
    verbs = {"transcribe": run_transcribe, "profile": run_profile, "choose": run_choose, "verify": run_verify}
    transcribe, profile, choose, verify = map(commands.add_parser, verbs)
    for command in (transcribe, profile, choose, verify):
        command.add_argument("--bundle", type=Path, default=Path(__file__).parent, help="its folder")
    for command in (transcribe, profile, choose):
        command.add_argument("wav", nargs="*", help="recordings; profile and choose measure on noise without any")
        command.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[1])
    for command in (transcribe, choose):
        command.add_argument("--int8", action="store_true", help="take int8 files; choose takes those of either kind")
    transcribe.add_argument("--size", help="id of a size (default: the largest one)")
    transcribe.add_argument("--stream", action="store_true", help="print the text as it grows")
    transcribe.add_argument("--json", action="store_true", help="print text, tokens and their encoder frames as JSON")
    profile.add_argument("--size", action="append", default=[], help="id of a size, repeatable (default: all sizes)")
    profile.add_argument("--json", type=Path, metavar="FILE", help="write the profile to this file")
    profile.add_argument("--repeats", type=int, default=5, help="how many times each recording is timed")
    profile.add_argument("--here", help=argparse.SUPPRESS)
    choose.add_argument("--profile", type=Path, help="read the measurements from this file")
    choose.add_argument("--set", default="dev", help="the set whose WER counts")
    for name, column in LIMITS.items():
        choose.add_argument("--" + name.replace("_", "-"), type=float, help=f"highest {column}")
    args = parser.parse_args()
    try:
        return verbs[args.command](open_bundle(args.bundle), args)
    except BundleError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
