"""The training utterances that a recipe can use, at every training speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lhotse import CutSet
from lhotse.cut import Cut

from slimasr.config.schema import Config
from slimasr.data.files import BadUtterance, DataFolder, check_bad_share, read_bad, read_cuts
from slimasr.data.filters import EncoderFrames, unusable
from slimasr.data.identity import check_audio_unchanged
from slimasr.data.provenance import check_features, stored_speed, stored_speeds
from slimasr.data.sampling import Sample, speed_of
from slimasr.data.shards import at_speed
from slimasr.data.tokenizer import Tokenizer
from slimasr.errors import UserError


@dataclass(frozen=True)
class TrainingCuts:
    """Usable training cuts.

    Attributes:
        ids: utterances in the order of the manifests.
        speeds: ``data.speeds``.
        stored: speed -> utterance id -> cut; with on-the-fly features, only speed 1.
        bad: utterances that any stage so far has left out.
        keys: utterance id -> its value of the batch key; None = batches are mixed.
    """

    ids: tuple[str, ...]
    speeds: tuple[float, ...]
    stored: dict[float, dict[str, Cut]]
    bad: tuple[BadUtterance, ...]
    keys: dict[str, str] | None = None

    @property
    def languages(self) -> dict[str, int]:
        """Language -> number of utterances; an empty name for those without a language."""
        # Supervisions are the same at all speeds.
        cuts = next(iter(self.stored.values()))
        return dict(Counter(cuts[name].supervisions[0].language or "" for name in self.ids))

    def cut(self, sample: Sample) -> Cut:
        """The cut of an utterance at a speed."""
        cuts = self.stored.get(sample.speed)
        if cuts is None:
            return at_speed(self.stored[1.0][sample.id], sample.speed)
        return cuts[sample.id]

    def of_epoch(self, seed: int, epoch: int, names: Sequence[str] | None = None, again: str = "") -> list[Sample]:
        """Every utterance once, at the speed that was drawn for it in this epoch.

        Args:
            names: these utterances instead of all.
            again: which repetition within the epoch; empty = the first occurrence.
        """
        chosen = self.ids if names is None else names
        return [self._sample(name, speed_of(name, self.speeds, seed, epoch, again)) for name in chosen]

    def slowest(self) -> list[Sample]:
        """Every utterance once, at its longest duration."""
        return [self._sample(name, min(self.speeds)) for name in self.ids]

    def _sample(self, name: str, speed: float) -> Sample:
        # With on-the-fly features only speed 1 is stored; lhotse's perturbed cut has this duration up to rounding.
        cuts = self.stored.get(speed)
        duration = self.stored[1.0][name].duration / speed if cuts is None else cuts[name].duration
        key = None if self.keys is None else self.keys[name]
        return Sample(name, speed, duration, key)


def read_training_cuts(
    config: Config,
    folder: DataFolder,
    tokenizer: Tokenizer,
    encoder_frames: EncoderFrames,
    key: str | None = None,
) -> TrainingCuts:
    """Read the cuts of stage 2 and leave out utterances that cannot be used for training at one of the speeds.

    Args:
        key: supervision field by which batches are grouped.

    Raises:
        UserError: stage 2 has not run, no utterance is usable, or more than ``data.max_bad_share`` are unusable.
    """
    data = config.data
    ids: list[str] = []
    bad: list[BadUtterance] = []
    stored: dict[float, dict[str, Cut]] = {}
    for name in data.train:
        by_speed = _read_set(config, folder, name)
        listed = _in_all(by_speed)
        good, rejected = _select(listed, by_speed, config, tokenizer, encoder_frames)
        # The limit applies to what stages 1 and 2 and this check leave out together.
        left_out = [*read_bad(folder.raw_bad(name)), *read_bad(folder.bad(name)), *rejected]
        check_bad_share(left_out, len(left_out) + len(good), data.max_bad_share, name)
        ids.extend(good)
        bad.extend(left_out)
        for speed, cuts in by_speed.items():
            stored.setdefault(speed, {}).update((cut_id, cuts[cut_id]) for cut_id in good)
    if not ids:
        raise UserError(f"{folder.features}: no usable training utterance in {', '.join(data.train)}")
    if len(set(ids)) != len(ids):
        raise UserError(f"data.train: the sets {', '.join(data.train)} share utterances")
    # Supervisions are the same at all speeds.
    first = next(iter(stored.values()))
    keys = None if key is None else {name: key_value(first[name], key) for name in ids}
    return TrainingCuts(tuple(ids), tuple(data.speeds), stored, tuple(bad), keys)


def key_value(cut: Cut, key: str) -> str:
    """The value of the batch key: a supervision field or custom entry.

    Raises:
        UserError: the utterance has none.
    """
    supervision = cut.supervisions[0]
    value = getattr(supervision, key) if hasattr(supervision, key) else (supervision.custom or {}).get(key)
    if value is None:
        raise UserError(f"{cut.id}: has no {key!r}, by which batches are grouped")
    return str(value)


def read_feature_cuts(folder: DataFolder, set_name: str, speed: float = 1.0) -> CutSet:
    """The cuts that stage 2 wrote, with absolute paths of their features."""
    cuts = read_cuts(folder.cuts(set_name, speed), "stage 2 (slimasr-features)")
    # Manifests hold relative paths, so that the data folder can be moved.
    return CutSet.from_cuts(cut.with_features_path_prefix(folder.features) if cut.has_features else cut for cut in cuts)


def read_cuts_at(config: Config, folder: DataFolder, set_name: str, speed: float) -> CutSet:
    """A set at a training speed."""
    cuts = read_feature_cuts(folder, set_name, stored_speed(config, speed))
    if config.data.storage == "precomputed":
        return cuts
    return CutSet.from_cuts(at_speed(cut, speed) for cut in cuts)


def _read_set(config: Config, folder: DataFolder, name: str) -> dict[float, dict[str, Cut]]:
    by_speed: dict[float, dict[str, Cut]] = {}
    for speed in stored_speeds(config):
        check_features(config, folder, name, speed)
        by_speed[speed] = {cut.id: cut for cut in read_feature_cuts(folder, name, speed)}
    # The audio files are the same at all speeds.
    check_audio_unchanged(next(iter(by_speed.values())).values(), name)
    return by_speed


def _in_all(by_speed: dict[float, dict[str, Cut]]) -> list[str]:
    """Ids that exist at every speed, in the order of the first one."""
    first, *others = by_speed.values()
    return [cut_id for cut_id in first if all(cut_id in cuts for cuts in others)]


def _select(
    listed: list[str],
    by_speed: dict[float, dict[str, Cut]],
    config: Config,
    tokenizer: Tokenizer,
    encoder_frames: EncoderFrames,
) -> tuple[list[str], list[BadUtterance]]:
    """Ids that are usable at every speed, and the others with the reason."""
    good: list[str] = []
    bad: list[BadUtterance] = []
    # Any stored speed gives the durations at all others. An utterance is longest at the lowest speed and shortest at
    # the highest one, so these two decide for all between them.
    stored_speed, cuts = next(iter(by_speed.items()))
    extremes = (min(config.data.speeds), max(config.data.speeds))
    for cut_id in listed:
        cut = cuts[cut_id]
        text = cut.supervisions[0].text
        ids = tokenizer.encode(text)
        durations = [cut.duration * stored_speed / speed for speed in extremes]
        reasons = (unusable(seconds, text, ids, config, tokenizer, encoder_frames) for seconds in durations)
        reason = next((found for found in reasons if found is not None), None)
        if reason is None:
            good.append(cut_id)
        else:
            bad.append(BadUtterance(cut_id, reason))
    return good, bad
