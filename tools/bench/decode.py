"""Our decoding against sherpa-onnx, from samples to texts, both on one thread.

Both run the same model on AN4's test set: ours in torch, sherpa-onnx on the files of our ONNX export. First, both have
batches, in words per second; then ours has one utterance after the other, and sherpa-onnx whatever is fastest of float
and int8, alone and in batches. The program of the bundle, run.py, recognises the same utterances in onnxruntime. The
model must have a stateless predictor. The encoder may be of any kind, because whole utterances are recognised.

    decode.py                      AN4's preset with random weights that emit as often as trained ones
    decode.py EXP [SUBNET]         a trained model
    decode.py --corpus-dir DIR     where AN4 is; default: $SLIMASR_CORPORA. Without it, noise of the same lengths
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import report
from torch.nn.utils.rnn import pad_sequence
from untrained import let_emit, write_experiment

from slimasr.config.search import DecodingConfig
from slimasr.data.audio.file import open_audio
from slimasr.data.batches.batch import Batch
from slimasr.data.corpora import CORPORA, find_corpus
from slimasr.data.features.frames import extract_frames
from slimasr.data.features.shards import make_extractor
from slimasr.data.tokens.tokenizer import TOKENS_FILE, Tokenizer
from slimasr.decoding.recognize import Recognition, encoder_of
from slimasr.decoding.searches.words import word_search
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.subnets import find_subnet
from slimasr.export.device import Recognizer, open_bundle
from slimasr.export.export import export_bundle
from slimasr.export.packages import needed
from slimasr.export.writer import DECODER, JOINER, BundleOptions, encoder_file
from slimasr.models.base import SpeechModel
from slimasr.models.transducer import Transducer
from slimasr.progress import silent
from slimasr.supernet.subnet import Subnet

PRESET = Path(__file__).resolve().parents[2] / "egs" / "an4" / "conf" / "separate.yaml"
SAMPLING_RATE = 16000
BATCH = 32
REPEATS = 5
NOISE_UTTERANCES = 130
KINDS = {"greedy": "greedy_search", "modified_beam": "modified_beam_search"}
"""Searches: their names here and in sherpa-onnx."""
THEIR_BATCHES = (1, 16)
FASTEST_AT_MOST = 0.8
"""Share of the time in torch, utterance by utterance, that sherpa-onnx may take at its fastest."""


@dataclass(frozen=True)
class Recording:
    """Samples (T,) float32 of an utterance, and the number of words in it."""

    samples: np.ndarray
    words: int


def read_set(corpus_dir: Path | None) -> tuple[str, list[Recording]]:
    """Return AN4's test set and its name, or noise of similar lengths if the corpus is absent."""
    try:
        folder = find_corpus(CORPORA["an4"], corpus_dir, Path("data/corpora"), ["test"], {}, silent)
    except UserError:
        rng = np.random.default_rng(0)
        seconds = rng.uniform(1.0, 5.0, NOISE_UTTERANCES)
        noise = [0.1 * rng.standard_normal(int(s * SAMPLING_RATE)) for s in seconds]
        return "noise", [Recording(n.astype(np.float32), round(2 * s)) for n, s in zip(noise, seconds, strict=True)]
    recordings = []
    for utterance in CORPORA["an4"].list_utterances(folder, ["test"], {})["test"]:
        with open_audio(utterance.audio) as file:
            recordings.append(Recording(np.concatenate(list(file.blocks()), axis=1)[0], len(utterance.text.split())))
    return "AN4 test", recordings


@torch.no_grad()
def let_model_emit(recordings: Sequence[Recording], model: SpeechModel) -> None:
    """Let a model with random weights emit tokens as often as a trained one."""
    assert isinstance(model, Transducer)
    batch = to_batch(recordings[:8], model.config.num_mel_bins)
    # Features are normalised by the statistics of the model, which training would set.
    model.set_feature_stats(batch.x.mean(dim=(0, 1)), batch.x.std(dim=(0, 1)))
    encoded = model.encode(batch.x, batch.x_lens)
    let_emit(model, model.project_encoder(encoded.out), encoded.lens)


def to_batch(recordings: Sequence[Recording], num_mel_bins: int) -> Batch:
    """Compute the features of a batch."""
    extractor = make_extractor(num_mel_bins, SAMPLING_RATE)
    features = [torch.from_numpy(extract_frames(extractor, r.samples[np.newaxis], SAMPLING_RATE)) for r in recordings]
    lens = torch.tensor([len(f) for f in features])
    names = tuple(map(str, range(len(features))))
    empty = torch.zeros((len(features), 0), dtype=torch.int64)
    return Batch(pad_sequence(features, batch_first=True), lens, empty, torch.zeros_like(lens), names, names)


def our_texts(model: Transducer, tokenizer: Tokenizer, kind: Any, batches: Sequence[Sequence[Recording]]) -> list[str]:
    """Recognise all batches with our search."""
    recognition = Recognition(word_search(model, tokenizer, DecodingConfig(kind=kind)))
    encode = encoder_of(model, None)
    return [
        text
        for recordings in batches
        for text in recognition.texts(to_batch(recordings, model.config.num_mel_bins), encode)
    ]


def export(experiment: Experiment, subnet: Subnet, folder: Path) -> dict[str, str]:
    """Write a bundle in float and int8, and return the arguments of sherpa-onnx for it."""
    export_bundle(experiment, [subnet], folder, BundleOptions(int8=True, standalone=True, forced=True))
    names = {"encoder": encoder_file(subnet), "decoder": DECODER, "joiner": JOINER, "tokens": TOKENS_FILE}
    return {role: str(folder / name) for role, name in names.items()}


def their_texts(recognizer: Any, batches: Sequence[Sequence[Recording]]) -> list[str]:
    """Recognise all batches with sherpa-onnx, which computes features itself."""
    texts = []
    for recordings in batches:
        streams = []
        for recording in recordings:
            stream = recognizer.create_stream()
            stream.accept_waveform(SAMPLING_RATE, recording.samples)
            streams.append(stream)
        recognizer.decode_streams(streams)
        texts += [stream.result.text.strip() for stream in streams]
    return texts


def texts_of_program(recognizer: Recognizer, recordings: Sequence[Recording]) -> list[str]:
    """Recognise all utterances with run.py of the bundle."""
    return [recognizer.transcribe(recording.samples).text for recording in recordings]


def timed(call: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Return the CPU seconds of a call, and its result."""
    start = time.process_time()
    texts = call()
    return time.process_time() - start, texts


def measure(
    title: str, model: Transducer, tokenizer: Tokenizer, recordings: list[Recording], arguments: dict[str, str]
) -> None:
    """Time both searches on both sides in batches, one after the other, and print the results."""
    # Utterances of similar length share a batch on both sides, as in our decoding of sets.
    ordered = sorted(recordings, key=lambda recording: len(recording.samples))
    batches = [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]
    words = sum(recording.words for recording in recordings)
    for kind, their_name in KINDS.items():
        recognizer = needed("sherpa_onnx").OfflineRecognizer.from_transducer(
            **arguments, num_threads=1, feature_dim=model.config.num_mel_bins, decoding_method=their_name
        )
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        # The first round warms up.
        for _ in range(REPEATS + 1):
            ours, our_found = timed(partial(our_texts, model, tokenizer, kind, batches))
            theirs, their_found = timed(partial(their_texts, recognizer, batches))
            seconds["ours"].append(ours)
            seconds["theirs"].append(theirs)
        rates = [words / statistics.median(side[1:]) for side in seconds.values()]
        same = sum(a == b for a, b in zip(our_found, their_found, strict=True)) / len(recordings)
        audio = sum(len(recording.samples) for recording in recordings) / SAMPLING_RATE
        report(
            f"{title}, {kind}, words per CPU second against sherpa-onnx",
            rates[0],
            rates[1],
            rates[0] / rates[1],
            None,
            ratio_of_fastest=min(seconds["theirs"][1:]) / min(seconds["ours"][1:]),
            rtf=statistics.median(seconds["ours"][1:]) / audio,
            equal_texts=same,
        )


def compare_alone(
    title: str, model: Transducer, tokenizer: Tokenizer, recordings: list[Recording], arguments: dict[str, str]
) -> None:
    """Time greedy search utterance by utterance in torch and in run.py, and the ways of sherpa-onnx; print both."""
    bundle = open_bundle(Path(arguments["encoder"]).parent)
    (size,) = bundle.manifest["sizes"]
    encoders = {precision: str(bundle.folder / size[precision]["encoder"]) for precision in ("float", "int8")}
    ways: dict[str, Callable[[], list[str]]] = {
        "torch": partial(our_texts, model, tokenizer, "greedy", [[recording] for recording in recordings])
    }
    for precision, encoder in encoders.items():
        program = Recognizer(bundle, int8=precision == "int8")
        ways[f"run.py in {precision}"] = partial(texts_of_program, program, recordings)
        recognizer = needed("sherpa_onnx").OfflineRecognizer.from_transducer(
            **{**arguments, "encoder": encoder}, num_threads=1, feature_dim=model.config.num_mel_bins
        )
        for size in THEIR_BATCHES:
            batches = [recordings[start : start + size] for start in range(0, len(recordings), size)]
            ways[f"{precision}, {size} at a time"] = partial(their_texts, recognizer, batches)
    # All ways in turn, so that other work disturbs them alike; the first round warms up.
    rounds = [{name: timed(way)[0] for name, way in ways.items()} for _ in range(REPEATS + 1)]
    audio = sum(len(recording.samples) for recording in recordings) / SAMPLING_RATE
    rtf = {name: min(seconds[name] for seconds in rounds[1:]) / audio for name in ways}
    ours = rtf["torch"]
    fastest = min((name for name in rtf if name.endswith("at a time")), key=rtf.__getitem__)
    report(
        f"{title}, RTF of sherpa-onnx ({fastest}) against torch, utterance by utterance",
        rtf[fastest],
        ours,
        rtf[fastest] / ours,
        FASTEST_AT_MOST,
        **rtf,
    )
    for precision in encoders:
        program_rtf, other = rtf[f"run.py in {precision}"], rtf[f"{precision}, 1 at a time"]
        name = f"{title}, RTF of run.py against sherpa-onnx in {precision}, utterance by utterance"
        report(name, program_rtf, other, program_rtf / other, None)


def main() -> None:
    """Measure the model named on the command line, or one with random weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", nargs="?", type=Path, help="Experiment folder.")
    parser.add_argument("subnet", nargs="?", default="max", help="Subnet of it.")
    parser.add_argument("--corpus-dir", type=Path, metavar="DIR", help="Folder of AN4.")
    arguments = parser.parse_args()
    absent = [name for name in ("sherpa_onnx", "onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if absent:
        print(f"decode: skipped, {', '.join(absent)} is not installed: pip install 'slimasr[export]'")
        return
    torch.set_num_threads(1)
    title, recordings = read_set(arguments.corpus_dir)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.exp is None:
            experiment = write_experiment(folder / "exp", PRESET, partial(let_model_emit, recordings))
        else:
            experiment = Experiment.open(arguments.exp)
        subnet = find_subnet(experiment, arguments.subnet)
        model = experiment.model.extract(subnet).eval()
        if not isinstance(model, Transducer) or model.config.predictor.kind != "stateless":
            raise SystemExit("decode: needs a transducer with predictor.kind stateless")
        exported = export(experiment, subnet, folder / "bundle")
        for compare in (measure, compare_alone):
            compare(f"decoding of {title}", model, experiment.tokenizer, recordings, exported)


if __name__ == "__main__":
    main()
