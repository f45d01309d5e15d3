"""``run.py`` of a bundle: recognises speech with the models in its folder, measures all sizes, and chooses one.

It needs Python 3.9 or newer, numpy, and onnxruntime 1.15 or newer; in slimasr it is the module `slimasr.export.device`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import shlex
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
except ModuleNotFoundError as error:
    sys.exit(f"run.py: {error}: python -m pip install numpy")

Row = dict[str, Any]
VERSION, PRECISIONS = 1, ("float", "int8")
LIMITS = {"max_rtf": "rtf", "max_memory_mb": "peak_mb", "max_mb": "mb", "max_latency_ms": "encoder_ms"}
COLUMNS = "size precision threads load_ms encoder_ms_per_second rtf rtf_p90 peak_mb mb params wer".split()  # noqa: SIM905


class BundleError(Exception):
    """An error that the user can correct: one line that names the file and says what to do."""


class Bundle(NamedTuple):
    """The folder of a bundle, and its manifest (docs/bundle.md describes the fields)."""

    folder: Path
    manifest: dict[str, Any]

    def size(self, name: str | None = None) -> dict[str, Any]:
        """Return the entry of a size; None = the largest one, unless it is for one of several languages."""
        ids: dict[str, dict[str, Any]] = {size["id"]: size for size in self.manifest["sizes"]}
        one_language = self.manifest["sizes"][0]["language"] and len(self.manifest["languages"]) > 1
        if name not in (ids if one_language else (None, *ids)):
            raise BundleError(f"{self.folder} has no size {name or 'for all languages'}: name one of {', '.join(ids)}")
        return ids[name or next(iter(ids))]

    def runs(self) -> list[tuple[dict[str, Any], bool]]:
        """Return the entries of all sizes, and whether in int8, as far as they were exported."""
        return [(size, int8) for size in self.manifest["sizes"] for int8 in (False, True) if size[PRECISIONS[int8]]]

    def files(self, size: dict[str, Any], int8: bool = False) -> dict[str, Path]:
        """Return the files that run a size, by their role, if they have the bytes that the manifest notes."""
        entry, shared = size[PRECISIONS[int8]], self.manifest
        if entry is None:
            raise BundleError(f"{self.folder}: {size['id']} was not exported in {PRECISIONS[int8]}: name another size")
        names = {role: size.get(role) or shared[role] for role in ("decoder", "joiner", "features", "tokens")}
        joiner = (int8 and not size.get("joiner") and shared["joiner_int8"]) or names["joiner"]
        names.update(encoder=entry["encoder"], weights=entry["weights"], joiner=joiner)
        for problem in filter(None, (self.problem(name, name == shared["tokens"]) for name in names.values() if name)):
            raise BundleError(problem)
        return {role: self.folder / name for role, name in names.items() if name}

    def problem(self, name: str, whole: bool = False) -> str:
        """Compare a file's number of bytes and, if ``whole``, its sha256 with the manifest; "" = they are equal."""
        path, recorded, how = self.folder / name, self.manifest["files"].get(name, {}), "is missing"
        if path.is_file():
            size, known = path.stat().st_size, recorded.get("bytes")
            digest = sha256(path.read_bytes()).hexdigest() if whole else recorded.get("sha256")
            if (size, digest) == (known, recorded.get("sha256")):
                return ""
            how = "was altered" if size == known else f"has {size} bytes instead of {known}"
            twins = [other for other, note in self.manifest["files"].items() if note["sha256"] == digest and whole]
            how = f"has the content of {twins[0]}" if twins else how
        return f"{path} {how}: copy the bundle again, as it was written"

    def pieces(self) -> list[str]:
        """Read tokens.txt: id -> piece."""
        path, ids = self.folder / self.manifest["tokens"], [str(i) for i in range(self.manifest["vocab_size"])]
        rows = [row.rpartition(" ") for row in path.read_text("utf-8", "replace").split("\n") if row]
        found = {number: piece for piece, _, number in rows}
        if len(rows) != len(ids) or found.keys() != set(ids):
            raise BundleError(f"{path} has not one line for each id below {len(ids)}: copy it from the bundle again")
        return [found[number] for number in ids]


def open_bundle(folder: Path) -> Bundle:
    """Read the manifest of a bundle."""
    return Bundle(folder, read_json(folder / "manifest.json", "slimasr-bundle", ("audio", "tokens", "sizes", "files")))


def read_json(path: Path, kind: str, keys: Iterable[str]) -> dict[str, Any]:
    """Read a file of a kind and version that this program knows; it needs some keys."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"), parse_constant=int)  # NaN is no integer.
        if found["version"] > VERSION:
            raise BundleError(f"{path} is newer than this program: use the run.py that came with it")
        if found["format"] != kind or not all(found[key] for key in keys):
            raise ValueError(f"it is no {kind}")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(f"{path} cannot be used ({error!r:.200}): name another, or copy or write it again") from None
    return found


class Session:
    """An ONNX file in onnxruntime, whose inputs and outputs are arrays in the order of the file."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        library: Any = importlib.import_module("onnxruntime")
        self.path, options = path, library.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4  # Errors are raised, and need no log.
        try:
            self.session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BundleError(f"{path} does not open ({error!r}): upgrade onnxruntime, or try run.py verify") from None
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        try:
            return list(self.session.run(None, {i.name: a for i, a in zip(self.session.get_inputs(), arrays)}))
        except Exception as error:
            raise BundleError(f"{self.path} does not run ({error!r}): is it in the place of another file?") from None


class Result(NamedTuple):
    """What was recognised: the text, the ids of its tokens, and for each token the encoder frame that emitted it."""

    text: str
    tokens: tuple[int, ...]
    frames: tuple[int, ...]


class Recognizer:
    """A size of a bundle (None = the largest) in onnxruntime; its search emits at most one token per encoder frame."""

    def __init__(self, bundle: Bundle, size: str | None = None, int8: bool = False, threads: int = 1) -> None:
        self.bundle, self.manifest, self.threads = bundle, bundle.manifest, threads
        self.rate, self.streaming = self.manifest["audio"]["sample_rate"], self.manifest["streaming"]
        self.sessions, self.pieces = dict[str, Session](), bundle.pieces()
        self.switch(size, int8)

    def switch(self, size: str | None = None, int8: bool = False) -> None:
        """Go on with another size: its encoder is opened, and files that are open already stay so."""
        entry, known = self.bundle.size(size), {session.path: session for session in self.sessions.values()}
        models = {role: path for role, path in self.bundle.files(entry, int8).items() if path.suffix == ".onnx"}
        sessions = {role: known.get(path) or Session(path, self.threads) for role, path in models.items()}
        if (said := json.loads(sessions["encoder"].metadata.get("subnet", "null"))) != entry["subnet"]:
            raise BundleError(f"{models['encoder']} is that of {said}, not of {entry['subnet']}: copy the bundle again")
        self.sessions, self.shapes = sessions, entry[PRECISIONS[int8]].get("states")

    def features(self, samples: np.ndarray) -> np.ndarray:
        """(S,) samples -> (T, F) features; audio shorter than a frame counts as silence, and a stream ends with it."""
        shift = int(self.rate * self.manifest["audio"]["frame_shift"] + 1e-6)
        tail = round(self.streaming["tail_seconds"] * self.rate) if self.streaming else 0
        padded = np.pad(samples if len(samples) >= shift else np.zeros(shift), (0, tail)).astype(np.float32)
        return self.sessions["features"](padded[np.newaxis])[0][0]

    def encode(self, features: np.ndarray) -> np.ndarray:
        """(T, F) features of an utterance -> (T', J) input of the joiner, or (T', V) scores of a CTC model."""
        return np.concatenate(list(self.chunks(features)))

    def chunks(self, features: np.ndarray) -> Iterator[np.ndarray]:
        """Encode (T, F) features, with a streaming model chunk by chunk; the end that fills no chunk is dropped."""
        x, encoder, online = features[np.newaxis], self.sessions["encoder"], self.streaming
        if not online:
            out, lens = encoder(x, np.array([len(features)], np.int64))
            yield out[0, : int(lens[0])]
            return
        window, states = online["window_frames"], [np.zeros(s, np.float32) for s in self.shapes or online["states"]]
        for first in range(0, len(features) - window, online["chunk_frames"]):  # As sherpa-onnx: one frame more.
            processed = [np.array([first], np.int64)] if online["carrier"] == "conformer" else []
            out, *states = encoder(x[:, first : first + window], *states, *processed)
            yield out[0]

    def search(self, encoded: Iterable[np.ndarray], show: Callable[[str], object] | None = None) -> Result:
        """Search encoder frames greedily as they come, and ``show`` the text after each token."""
        size, blank = self.manifest["context_size"] or 1, self.manifest["blank_id"]
        decoder, joiner = self.sessions.get("decoder"), self.sessions.get("joiner")
        history, frames, last, out = [-1] * (size - 1) + [blank], list[int](), blank, None
        for number, scores in enumerate(encoded):
            if decoder and joiner:
                out = decoder(np.array([history[-size:]], np.int64))[0] if out is None else out
                scores = joiner(scores[np.newaxis], out)[0]
            label = int(scores.argmax())
            if label not in (blank, self.manifest["unk_id"]) and (joiner or label != last):
                history.append(label)
                frames.append(number)
                out = None
                if show:
                    show(self.text(history[size:]))
            last = label  # A CTC model repeats a token while it lasts.
        return Result(self.text(history[size:]), tuple(history[size:]), tuple(frames))

    def transcribe(self, samples: np.ndarray, show: Callable[[str], object] | None = None) -> Result:
        """Recognise (S,) samples in [-1, 1] at the bundle's rate; see `search`."""
        return self.search((frame for chunk in self.chunks(self.features(samples)) for frame in chunk), show)

    def text(self, tokens: Iterable[int]) -> str:
        """Join tokens: pieces of SentencePiece spell words, ``<0xE4>`` is a byte of them; phonemes get spaces."""
        pieces = [piece for piece in map(self.pieces.__getitem__, tokens) if piece != "<sos/eos>"]
        parts = [bytes([int(p[1:5], 16)]) if p[:3] + p[5:] == "<0x>" else p.encode() for p in pieces]
        between = b"" if any("\u2581" in piece for piece in self.pieces) else b" "
        return between.join(parts).decode("utf-8", "replace").replace("\u2581", " ").strip()


def read_wav(path: Path, rate: int) -> np.ndarray:
    """Read a WAV file of integers at a rate in Hz as (S,) samples in [-1, 1]; channels are averaged."""
    try:
        with wave.open(str(path)) as file:
            channels, width, found, length = file.getparams()[:4]
            content = np.frombuffer(file.readframes(length), np.uint8)
        if found != rate or width > 4:
            raise wave.Error(f"it has {found} Hz and {8 * width} bits")
        if not length or len(content) != length * channels * width:
            raise wave.Error("it is truncated" if length else "it holds no samples")
    except (OSError, EOFError, wave.Error) as error:
        remedy = f"record it again, or ffmpeg -i FILE -ar {rate} -c:a pcm_s16le NEW.wav"
        raise BundleError(f"{path} is no WAV file of integers at {rate} Hz ({error!r}): {remedy}") from None
    wide = np.pad(content.reshape(-1, width), ((0, 0), (4 - width, 0)))  # Narrow integers become the upper bytes.
    wide[:, 3] ^= 128 if width == 1 else 0  # Those of one byte have no sign.
    return (wide.view("<i4")[:, 0] / 2.0**31).reshape(-1, channels).mean(axis=1)


def peak_memory() -> float | None:
    """Return the peak of this process's resident memory in MB; None where no figure of it alone is known."""
    if Path("/proc/self/status").exists():
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    return importlib.import_module("resource").getrusage(0).ru_maxrss / 1e6 if sys.platform == "darwin" else None


def measure(bundle: Bundle, args: argparse.Namespace) -> tuple[int, Any]:
    """Measure one size in this process, as profile does for each; prints a row of a profile, and ``seconds``."""
    entry, rate, kind = bundle.size(args.size), bundle.manifest["audio"]["sample_rate"], PRECISIONS[args.int8]
    utterances = [read_wav(Path(p), rate) for p in args.wav] or [np.random.default_rng(0).normal(0, 0.05, 10 * rate)]
    _, before, start = importlib.import_module("onnxruntime"), peak_memory(), time.perf_counter()
    recognizer = Recognizer(bundle, args.size, args.int8, args.threads[0])
    load, seconds = time.perf_counter() - start, np.array([len(samples) / rate for samples in utterances])
    marks = np.zeros((4, args.repeats + 1, len(utterances)))
    verbs: list[Callable[[Any], Any]] = [np.array, recognizer.features, recognizer.encode, recognizer.search]
    for turn, number in np.ndindex(*marks.shape[1:]):
        value: Any = utterances[number]
        for step, verb in enumerate(verbs):
            value = verb(value)
            marks[step, turn, number] = time.perf_counter()
    encoder, whole = (marks[2] - marks[1])[1:] * 1e3, (marks[3] - marks[0])[1:]  # The first turn warms up.
    row = {"size": entry["id"], "subnet": entry["subnet"], "precision": kind, "threads": args.threads[0]}
    row.update(load_ms=load * 1e3, peak_mb=None if before is None else max(0.0, (peak_memory() or before) - before))
    row.update(encoder_ms_per_second=np.median(encoder.sum(axis=1)) / seconds.sum(), encoder_ms=np.median(encoder))
    row.update(rtf=np.median(whole.sum(axis=1)) / seconds.sum(), rtf_p90=np.quantile(whole / seconds, 0.9))
    print(json.dumps({**row, "bytes": entry[kind]["bytes"], "seconds": seconds.tolist()}))
    return 0, row


def profile(bundle: Bundle, args: argparse.Namespace) -> tuple[int, Any]:
    """Measure all sizes on this machine, each in a process of its own; docs/bundle.md has the layout."""
    rows = []
    for (size, int8), count in [(run, count) for run in bundle.runs() for count in args.threads]:
        options = [f"--size={size['id']}", f"--threads={count}", f"--bundle={bundle.folder}", *["--int8"] * int8]
        command = [sys.executable, __file__, "measure", *args.wav, *options, f"--repeats={args.repeats}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().split("\n")[-1] or f"ended with status {done.returncode}; is memory short?"
            raise BundleError(f"{size['id']} in {PRECISIONS[int8]}: {said}")
        rows.append(json.loads(done.stdout))
    heard = {"source": " ".join(args.wav) or "noise", "seconds": [row.pop("seconds") for row in rows][-1]}
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    processor = info.partition("model name")[2].split("\n")[0].strip("\t :") or platform.processor()
    machine = {"name": platform.node(), "processor": processor, "system": platform.platform()}
    machine.update(python=platform.python_version(), onnxruntime=importlib.import_module("onnxruntime").__version__)
    print(", ".join(machine.values()))
    print_table([figures(bundle, row) for row in rows])
    head = {"format": "slimasr-profile", "version": VERSION, **{k: bundle.manifest[k] for k in ("model", "streaming")}}
    return 0, {**head, "machine": machine, "audio": heard, "rows": rows}


def figures(bundle: Bundle, row: Row) -> Row:
    """Add what the manifest knows of a size to a row of a profile, perhaps of a bundle of other sizes and bytes."""
    size, absent = bundle.size(row["size"]), {key: None for key in LIMITS.values() if (row.get(key) or 0) < 0}
    entry = size[row["precision"]]
    wer = {name: round(value, 2) for name, value in (entry["wer"] or {}).items()}
    return {**row, **absent, "bytes": entry["bytes"], "mb": entry["bytes"] / 1e6, "params": size["params"], "wer": wer}


def print_table(rows: Sequence[Row]) -> None:
    """Print results of `figures`; WER is a mapping from sets, which loses its brackets."""
    texts = [[f"{v:.4g}" if isinstance(v, float) else str(v).strip("{}") for v in map(r.get, COLUMNS)] for r in rows]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *texts)]
    print("\n".join("  ".join(map(str.rjust, line, widths)) for line in [COLUMNS, *texts]))


def best_row(rows: Sequence[Row], limits: dict[str, float], set_name: str) -> tuple[Row, list[str]]:
    """Return the row of lowest WER (or most parameters) within limits, or else of least excess; and what it misses."""
    excess = [[np.inf if r[k] is None else r[k] / limits[k] for k in limits] for r in rows]  # None: not known
    quality = [(row["wer"].get(set_name, np.inf), -row["params"], row["bytes"]) for row in rows]
    best = rows[min(range(len(rows)), key=lambda place: (max([1.0, *excess[place]]), *quality[place]))]
    return best, [key for key, most in limits.items() if best[key] is None or not best[key] <= most]


def choose(bundle: Bundle, args: argparse.Namespace) -> tuple[int, Any]:
    """Print the files of the best size within limits, as options of sherpa-onnx; the profile is read or measured."""
    found = read_json(args.profile, "slimasr-profile", ["model", "rows"]) if args.profile else profile(bundle, args)[1]
    model, online = bundle.manifest["model"], bundle.manifest["streaming"]
    fed = [how and (how["carrier"], how["chunk_frames"]) for how in (online, found.get("streaming", online))]
    same = found["model"]["architecture"] == model["architecture"] and fed[0] == fed[1]
    known = [(s["id"], PRECISIONS[int8], args.threads[0]) for s, int8 in bundle.runs() if same and int8 <= args.int8]
    rows = [figures(bundle, r) for r in found["rows"] if (r["size"], r["precision"], r["threads"]) in known]
    if not rows:
        problem = "lacks these threads and sizes" if same else "is that of another bundle, or of one fed otherwise"
        raise BundleError(f"{args.profile or bundle.folder} {problem}: run.py profile --json FILE writes a profile")
    limits = {column: getattr(args, name) or 1e-9 for name, column in LIMITS.items() if getattr(args, name) is not None}
    if args.set not in (sets := {name for row in rows for name in row["wer"]} or {args.set}):
        raise BundleError(f"{bundle.folder}: no size has a WER on {args.set}: name one of {', '.join(sorted(sets))}")
    best, missed = best_row([row for row in rows if args.set in row["wer"]] or rows, limits, args.set)
    print_table([best])
    files = bundle.files(bundle.size(best["size"]), best["precision"] == "int8")
    names = {"encoder": "encoder" if "joiner" in files else "zipformer-ctc-model"}
    print(shlex.join(f"--{names.get(r, r)}={path}" for r, path in files.items() if r not in ("weights", "features")))
    for column in missed:
        print(f"run.py: no size keeps all limits; {column} of the nearest is {best[column]}, above {limits[column]}")
    return (1 if missed else 0), {**best, "missed": missed, "files": {role: str(path) for role, path in files.items()}}


def verify(bundle: Bundle, args: argparse.Namespace | None = None) -> tuple[int, list[str]]:
    """Check all files, run every size on silence, and print a line for each problem, with its remedy."""
    problems = [text for text in (bundle.problem(name, True) for name in bundle.manifest["files"]) if text]
    try:
        for size, int8 in [] if problems else bundle.runs():  # What opens damaged files may end without a message.
            manifest, recognizer = bundle.manifest, Recognizer(bundle, size["id"], int8)
            encoded, sessions = recognizer.encode(recognizer.features(np.zeros(recognizer.rate))), recognizer.sessions
            recognizer.search(encoded)
            scores = sessions["joiner"](encoded, np.zeros_like(encoded))[0] if "joiner" in sessions else encoded
            facts = [("encoder", "finite scores", np.isfinite(scores).all(axis=0).sum(), manifest["vocab_size"])]
            for key in ("vocab_size", "context_size") if "decoder" in sessions else ():
                facts.append(("decoder", key, json.loads(sessions["decoder"].metadata.get(key, "null")), manifest[key]))
            for role, key, found, value in facts:
                if found != value:
                    raise BundleError(f"{sessions[role].path}: {key} is {found} instead of {value}: export it again")
    except BundleError as error:
        problems.append(str(error))
    print("\n".join(problems) or f"{bundle.folder}: all files are as written, all sizes run")
    return min(1, len(problems)), problems


def transcribe(bundle: Bundle, args: argparse.Namespace) -> tuple[int, Any]:
    """Print the text of recordings."""
    recognizer, results = Recognizer(bundle, args.size, args.int8, args.threads[0]), []
    for path in args.wav:
        found = recognizer.transcribe(read_wav(Path(path), recognizer.rate), print if args.stream else None)
        results.append({"name": path, **found._asdict()})
        print(f"{path}: {found.text}" if len(args.wav) > 1 else found.text)
    return 0, results


def main() -> int:
    """Run a command and return its exit status."""
    verbs = {"transcribe": transcribe, "profile": profile, "choose": choose, "verify": verify, "measure": measure}
    parser = argparse.ArgumentParser("run.py", description=__doc__)
    add = parser.add_argument
    add("command", choices=verbs, help=" ".join(f"{name}: {verb.__doc__}" for name, verb in verbs.items()))
    add("--bundle", type=Path, default=Path(__file__).resolve().parent, help="the bundle (default: that of run.py)")
    add("--json", type=Path, metavar="FILE", help="write the results to this file")
    options = [  # The help of each begins with the commands that use it.
        add("wav", nargs="*", help="transcribe/profile/choose: recordings; without any, noise is measured"),
        add("--size", help="transcribe: id of the size (default: the largest one, unless sizes are for languages)"),
        add("--int8", action="store_true", help="transcribe/choose: in int8; choose compares sizes in float, too"),
        add("--stream", action="store_true", help="transcribe: print the text as it grows"),
        add("--threads", type=lambda t: [*map(int, t.split(","))], default=[1], help="transcribe/profile/choose: 1,2"),
        add("--repeats", type=int, default=30, help="profile/choose: how many times each recording is timed"),
        add("--profile", type=Path, help="choose: read the measurements from this file"),
        add("--set", default="dev", help="choose: the set whose WER counts"),
        *(add(f"--{k.replace('_', '-')}", type=float, help=f"choose: highest {v}") for k, v in LIMITS.items()),
    ]
    args = parser.parse_intermixed_args()
    for one in options:
        if args.command not in f"measure {one.help}".split(":")[0] and vars(args)[one.dest] not in (one.default, []):
            parser.error(f"{args.command} does not use {(one.option_strings or ['recordings'])[0]}: leave it out")
    if min(args.repeats, *args.threads) < 1 or (args.profile if args.wav else args.command == "transcribe"):
        parser.error("transcribe needs recordings, --profile none, and --threads and --repeats numbers above 0")
    if args.json and (args.json.suffix != ".json" or args.json.stem == "manifest" or not args.json.parent.is_dir()):
        parser.error(f"--json {args.json}: name a file NAME.json, not a manifest, in a folder that exists")
    try:
        status, results = verbs[args.command](open_bundle(args.bundle), args)
        if args.json:
            args.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return status
    except (BundleError, ModuleNotFoundError, OSError) as error:
        remedy = f": python -m pip install {error.name}" if isinstance(error, ModuleNotFoundError) else ""
        print(f"run.py: {error}{remedy}", file=sys.stderr)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        read = " or ".join(map(str, filter(None, (args.profile, args.bundle / "manifest.json"))))
        print(f"run.py: {read} was altered ({error!r}): copy or write it again", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # Text of any language can be printed.
    sys.exit(main())
