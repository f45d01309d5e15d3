"""Chunks of streams: against torchaudio's, after minutes, in batches, and as a share of real time.

One thread, processor time, random weights with a bias of blank with which frames emit as often as in real speech; the
sides take turns. A chunk is one segment of the encoder, 160 ms of audio. Comparisons:

    encoder     a chunk of 20 layers of 512 channels, ours with its front end, against torchaudio's `infer` without one
    age         a chunk of a stream of 10 minutes against one of a stream of 2 s: features, encoder and search
    batch       16 streams together against one after the other
    real time   chunks of AN4's preset: the time that 95 % of them take at most, against a tenth of their audio

    python tools/bench/streaming.py [--torchaudio DIR] [--tiny]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import report
from step import fastest, processor_seconds
from torchaudio_parts import add_torchaudio_option, build_emformers, find_torchaudio, missing
from untrained import let_emit, letter_tokenizer

from slimasr.config.encoders import EmformerConfig
from slimasr.config.load import load_config
from slimasr.config.model import StackFrontendConfig
from slimasr.config.search import DecodingConfig
from slimasr.decoding.streaming.stream import Stream, StreamRecognizer, accept
from slimasr.encoders.emformer import Emformer
from slimasr.models.build import build_model
from slimasr.models.transducer import Transducer

FILE = "models/emformer.py"
PRESET = Path(__file__).resolve().parents[2] / "egs" / "an4" / "conf" / "collaborative.yaml"
SAMPLING_RATE = 16000
CHUNK_SECONDS = 0.16
YOUNG_SECONDS = 2.0
SEARCHES = {
    "greedy search": DecodingConfig(),
    "beam search": DecodingConfig(kind="modified_beam"),
}
AGAINST_INFER, OLD_AGAINST_YOUNG, BATCH_GAIN, REAL_TIME_SHARE = 1.0, 1.1, 4.0, 0.1


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        num_layers: layers of the large encoder.
        d_model: its channels.
        old_seconds: age of an old stream.
        streams: streams of a batch.
        chunks: chunks that are timed.
    """

    num_layers: int = 20
    d_model: int = 512
    old_seconds: float = 600.0
    streams: int = 16
    chunks: int = 100


FULL = Settings()
TINY = Settings(num_layers=2, d_model=16, old_seconds=4.0, streams=3, chunks=4)


def large_encoder(settings: Settings) -> EmformerConfig:
    """Return the encoder of paper 3."""
    d_model = settings.d_model
    return EmformerConfig(
        d_model=d_model, num_heads=8, ffn_dim=4 * d_model, num_layers=settings.num_layers, dropout=0.0
    )


@torch.inference_mode()
def compare_encoders(settings: Settings, path: Path) -> None:
    """Time a chunk of ours and of torchaudio's, both in the middle of a stream."""
    config = large_encoder(settings)
    ours, theirs = build_emformers(path, config)
    features = torch.randn(1, ours.look_ahead_frames + 20 * ours.chunk_frames, 80)
    _, state = ours.stream(features, ours.init_state(1, features.device))
    chunk = torch.randn(1, ours.chunk_frames, 80)
    frames = torch.randn(1, config.segment + config.right_context, config.d_model)
    lens = torch.tensor([frames.shape[1]])
    states = None
    for _ in range(20):
        _, _, states = theirs.infer(frames, lens, states)
    # Each turn computes the same chunk from the same state, which neither side changes.
    seconds = fastest([lambda: ours.stream(chunk, state), lambda: theirs.infer(frames, lens, states)], settings.chunks)
    title = f"chunk of {config.num_layers} layers of {config.d_model} channels, against torchaudio's infer"
    report(f"{title}, processor seconds", seconds[0], seconds[1], seconds[0] / seconds[1], AGAINST_INFER)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Return samples of noise."""
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLING_RATE)).astype(np.float32)


def an4_recognizer(decoding: DecodingConfig, folder: Path) -> StreamRecognizer:
    """Build the deepest branch of AN4's preset with random weights that emit like trained ones."""
    tokenizer = letter_tokenizer(folder)
    torch.manual_seed(0)
    model = build_model(load_config(PRESET).model, None, tokenizer.vocab_size, (1.0,)).eval()
    assert isinstance(model, Transducer)
    recognizer = StreamRecognizer(model, None, tokenizer, decoding, SAMPLING_RATE)
    frames = recognizer.extractor.extract(noise(20.0), SAMPLING_RATE)
    features = torch.as_tensor(frames).unsqueeze(0)
    with torch.no_grad():
        # Features are normalised by the statistics of the model, which training would set.
        model.set_feature_stats(features.mean(dim=(0, 1)), features.std(dim=(0, 1)))
        encoded = model.encode(features, torch.tensor([features.shape[1]]))
        let_emit(model, model.project_encoder(encoded.out), encoded.lens)
    # The search keeps what it computes from the weights, which have changed.
    return StreamRecognizer(model, None, tokenizer, decoding, SAMPLING_RATE)


def opened(recognizer: StreamRecognizer, seconds: float) -> Stream:
    """Open a stream and let it grow to some age."""
    stream = recognizer.open()
    # In pieces, as the features of ten minutes at once would take much memory; all different, as in real speech.
    for piece in range(round(seconds / YOUNG_SECONDS)):
        stream.accept(noise(YOUNG_SECONDS, seed=piece))
    return stream


def compare_ages(name: str, recognizer: StreamRecognizer, settings: Settings) -> None:
    """Time chunks of an old stream and of young ones in turns."""
    old = opened(recognizer, settings.old_seconds)
    times: dict[str, list[float]] = {"old": [], "young": []}
    # A young stream is a few chunks older than said before a new one takes its place.
    for turn in range(settings.chunks // 4):
        young = opened(recognizer, YOUNG_SECONDS)
        for piece in range(4):
            samples = noise(CHUNK_SECONDS, seed=4 * turn + piece)
            times["old"].append(processor_seconds(partial(old.accept, samples)))
            times["young"].append(processor_seconds(partial(young.accept, samples)))
    ages = {side: statistics.median(seconds) for side, seconds in times.items()}
    title = f"chunk of AN4's preset, {name}, stream of {settings.old_seconds:g} s against {YOUNG_SECONDS:g} s"
    report(
        f"{title}, processor seconds",
        ages["old"],
        ages["young"],
        ages["old"] / ages["young"],
        OLD_AGAINST_YOUNG,
        ratio_of_fastest=min(times["old"]) / min(times["young"]),
        tokens=len(old.result.tokens),
    )


def report_batch(title: str, together: Callable[[], object], one_by_one: Callable[[], object], turns: int) -> None:
    """Time a chunk of all streams in a batch and one after the other."""
    seconds = fastest([together, one_by_one], turns)
    gain = seconds[1] / seconds[0]
    report(f"{title}, processor seconds (ratio: times as fast)", seconds[0], seconds[1], gain, BATCH_GAIN)


def compare_batches(recognizer: StreamRecognizer, settings: Settings) -> None:
    """Time the next chunk of several streams of AN4's preset."""
    samples = noise(CHUNK_SECONDS)

    def some_streams() -> list[Stream]:
        # Of different ages, as in practice
        return [opened(recognizer, YOUNG_SECONDS * (1 + index % 3)) for index in range(settings.streams)]

    grouped = some_streams()
    single = some_streams()

    def one_by_one() -> None:
        for stream in single:
            stream.accept(samples)

    title = f"chunk of AN4's preset, greedy search, {settings.streams} streams in a batch against one after the other"
    report_batch(title, lambda: accept(grouped, [samples] * len(grouped)), one_by_one, max(3, settings.chunks // 5))


@torch.inference_mode()
def compare_large_batches(settings: Settings) -> None:
    """Time the next chunk of several streams of the large encoder alone."""
    torch.manual_seed(0)
    config = large_encoder(settings)
    encoder = Emformer(config, StackFrontendConfig(factor=4), 80, (1.0,)).eval()
    features = torch.randn(settings.streams, encoder.look_ahead_frames + 20 * encoder.chunk_frames, 80)
    _, state = encoder.stream(features, encoder.init_state(settings.streams, features.device))
    chunk = torch.randn(settings.streams, encoder.chunk_frames, 80)
    rows = [(chunk[row : row + 1], state.select([row])) for row in range(settings.streams)]

    def one_by_one() -> None:
        for one, alone in rows:
            encoder.stream(one, alone)

    title = f"chunk of {config.num_layers} layers, {settings.streams} streams in a batch against one after the other"
    report_batch(title, lambda: encoder.stream(chunk, state), one_by_one, max(1, settings.chunks // 10))


def report_real_time(name: str, recognizer: StreamRecognizer, settings: Settings) -> None:
    """Time every chunk of a stream."""
    stream = opened(recognizer, YOUNG_SECONDS)
    chunks = [noise(CHUNK_SECONDS, seed) for seed in range(settings.chunks)]
    seconds = [processor_seconds(partial(stream.accept, samples)) for samples in chunks]
    p95 = quantile(seconds, 0.95)
    report(
        f"chunk of AN4's preset, {name}, 95 % of chunks within processor seconds, against its audio",
        p95,
        CHUNK_SECONDS,
        p95 / CHUNK_SECONDS,
        REAL_TIME_SHARE,
        median=statistics.median(seconds),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Run all comparisons; without torchaudio, all others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_torchaudio_option(parser)
    parser.add_argument("--tiny", action="store_true", help="small models and short streams, to see whether all runs")
    options = parser.parse_args()
    settings = TINY if options.tiny else FULL
    torch.set_num_threads(1)
    path = find_torchaudio(options.torchaudio, FILE)
    if path is None:
        print(f"streaming: infer {missing(options.torchaudio, FILE)}")
    else:
        compare_encoders(settings, path)
    compare_large_batches(settings)
    with tempfile.TemporaryDirectory() as folder:
        recognizers = {name: an4_recognizer(decoding, Path(folder) / name) for name, decoding in SEARCHES.items()}
        for name, recognizer in recognizers.items():
            report_real_time(name, recognizer, settings)
            compare_ages(name, recognizer, settings)
        compare_batches(recognizers["greedy search"], settings)


if __name__ == "__main__":
    main()
