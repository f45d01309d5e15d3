"""Decide which training utterances a model can learn from, and why the others cannot be used."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from slimasr.config.data import DataConfig
from slimasr.config.schema import Config
from slimasr.data.features.frames import feature_frames, has_frame
from slimasr.data.files import BadUtterance
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.files import to_json, write_atomic

EncoderFrames = Callable[[int], int]


def unusable(
    seconds: float,
    text: str,
    ids: Sequence[int],
    config: Config,
    tokenizer: Tokenizer,
    encoder_frames: EncoderFrames,
) -> str | None:
    """Why an utterance cannot be used for training, or None.

    Args:
        seconds: duration at the training speed.
        ids: the transcript's tokens.
        encoder_frames: feature frames -> encoder frames.
    """
    if not text.strip() or not ids:
        return "empty transcript"
    if tokenizer.unk_id in ids:
        return tokenizer.unencodable(text)
    # Shorter utterances are padded with silence.
    frames = max(feature_frames(seconds), config.model.frontend.min_frames)
    # The first reason found is the one reported.
    return _wrong_length(seconds, config.data) or infeasible(encoder_frames(frames), ids, config)


def _wrong_length(seconds: float, config: DataConfig) -> str | None:
    if seconds < config.min_cut_seconds:
        return f"{seconds:.2f} s, shorter than data.min_cut_seconds {config.min_cut_seconds:g}"
    if not has_frame(seconds):
        return f"{1000 * seconds:.3g} ms, shorter than one feature frame"
    if seconds > config.max_cut_seconds:
        return f"{seconds:.2f} s, longer than data.max_cut_seconds {config.max_cut_seconds:g}"
    return None


def infeasible(frames: int, ids: Sequence[int], config: Config) -> str | None:
    """Why no alignment of these tokens fits into so many encoder frames, or None.

    The decision uses only the numbers, never a model's loss, because a diverged model says nothing about the data. The
    losses that the model has decide what is needed.
    """
    loss = config.loss
    has_lattice = config.model.main_loss == "transducer"
    tokens = len(ids)
    if tokens == 0:
        return "no tokens"
    if frames < 1:
        return "shorter than one encoder frame"
    # All types but the regular one emit at most one token per frame.
    if has_lattice and loss.rnnt_type != "regular" and tokens > frames:
        return f"{tokens} tokens in {frames} encoder frames: no {loss.rnnt_type} alignment"
    if has_lattice and loss.transducer == "pruned" and tokens + 1 > frames * (loss.prune_range - 1) + 1:
        # A band of prune_range symbols moves up by at most prune_range - 1 per frame.
        return f"{tokens} tokens in {frames} encoder frames: outside loss.prune_range {loss.prune_range}"
    has_ctc = config.model.main_loss == "ctc" or loss.ctc_weight > 0
    # CTC needs a blank between equal neighbours.
    if has_ctc and tokens + sum(map(operator.eq, ids, ids[1:])) > frames:
        return f"{tokens} tokens in {frames} encoder frames: no CTC alignment"
    return None


def write_bad_utterances(path: Path, bad: Sequence[BadUtterance]) -> None:
    """Write utterances that were left out, one JSON object per line."""
    write_atomic(path, "".join(to_json(asdict(item)) + "\n" for item in bad))
