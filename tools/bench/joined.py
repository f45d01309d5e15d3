"""What long recordings cost: word error rates of joined utterances, transcribed whole and utterance by utterance.

Utterances of an experiment's sets are joined in random order, without pauses between them, to recordings of about ten
minutes, which slimasr cuts into pieces as it cuts any long recording.

    joined.py EXP DATA                                the test sets of the experiment
    joined.py EXP DATA --set-name dev --set-name test
    joined.py EXP DATA --window-seconds 6 --window-seconds 30
    joined.py EXP DATA --subnet 0.5 --minutes 5 --seed 1
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from common import report_figures
from lhotse.cut import Cut

from slimasr.data.audio.recordings import load_samples
from slimasr.data.files import DataFolder, check_sets, iterate_cuts
from slimasr.decoding.transcription.transcribe import reading_of, transcribe
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.subnets import chosen_subnet
from slimasr.scoring import Utterance, WerResult, score
from slimasr.supernet.subnet import Subnet

STAGE = "stage 1 (slimasr-prepare)"
AT_MOST_POINTS = 0.5
"""How many percentage points of word error rate joining may cost."""


@dataclass(frozen=True)
class Spoken:
    """An audio file and what is said in it."""

    path: Path
    words: tuple[str, ...]


def read_sets(data: Path, names: Sequence[str]) -> list[Cut]:
    """Return the utterances of sets."""
    folder = DataFolder(data)
    check_sets(names, folder.raw_cuts, STAGE)
    return [cut for name in names for cut in iterate_cuts(folder.raw_cuts(name), STAGE)]


def grouped(cuts: Sequence[Cut], minutes: float, seed: int) -> list[list[Cut]]:
    """Return the utterances in random order, in groups of about so many minutes each."""
    order = list(cuts)
    random.Random(seed).shuffle(order)
    total = sum(cut.duration for cut in order)
    # Equal shares, so that the last group is not a short rest.
    share = total / max(1, round(total / (60 * minutes)))
    groups: list[list[Cut]] = [[]]
    seconds = 0.0
    for cut in order:
        if seconds >= share * len(groups):
            groups.append([])
        groups[-1].append(cut)
        seconds += cut.duration
    return groups


def write_audio(groups: Sequence[Sequence[Cut]], folder: Path) -> Iterator[tuple[list[Spoken], Spoken]]:
    """Yield, for each group, the files of its utterances, and the file of the recording that joins them."""
    for number, group in enumerate(groups):
        alone, parts = [], []
        for place, cut in enumerate(group):
            parts.append(load_samples(cut)[0])
            words = tuple((cut.supervisions[0].text or "").split())
            alone.append(Spoken(folder / f"{number}-{place}.wav", words))
            soundfile.write(alone[-1].path, parts[-1], cut.sampling_rate, subtype="FLOAT")
        joined = Spoken(folder / f"{number}.wav", tuple(word for item in alone for word in item.words))
        soundfile.write(joined.path, np.concatenate(parts), group[0].sampling_rate, subtype="FLOAT")
        yield alone, joined


def error_rate(experiment: Experiment, spoken: Sequence[Spoken], subnet: Subnet, window: float | None) -> WerResult:
    """Transcribe files, and count the errors in all of them together."""
    texts = transcribe(experiment, [item.path for item in spoken], subnet, window)
    pairs = zip(spoken, texts, strict=True)
    found = [Utterance(item.path.stem, item.words, tuple(text.split())) for item, text in pairs]
    return score(found, replications=0)


def compare(experiment: Experiment, cuts: Sequence[Cut], options: argparse.Namespace) -> None:
    """Print both word error rates for each length of the window, and their difference in percentage points."""
    subnet = chosen_subnet(experiment, options.subnet)
    with tempfile.TemporaryDirectory(prefix="slimasr-joined-") as folder:
        groups = grouped(cuts, options.minutes, options.seed)
        files = list(write_audio(groups, Path(folder)))
        alone = error_rate(experiment, [item for utterances, _ in files for item in utterances], subnet, None)
        for window in options.window_seconds or [None]:
            joined = error_rate(experiment, [recording for _, recording in files], subnet, window)
            report_figures(
                f"WER of joined utterances, {subnet.id}",
                joined=joined.wer,
                alone=alone.wer,
                points=joined.wer - alone.wer,
                target=AT_MOST_POINTS,
                window_seconds=reading_of(experiment, window).window_seconds,
                words=alone.counts.words,
                utterances=len(cuts),
                recordings=len(files),
                minutes=sum(cut.duration for cut in cuts) / 60 / len(files),
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path, help="experiment folder")
    parser.add_argument("data", type=Path, help="its data folder, with the manifests of stage 1")
    parser.add_argument("--set-name", action="append", help="set of utterances (default: the test sets)")
    parser.add_argument("--subnet", help="the subnet that recognises (default: max)")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of a recording (default: 10)")
    parser.add_argument("--window-seconds", type=float, action="append", help="as in slimasr-transcribe; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of the utterances")
    options = parser.parse_args(arguments)
    try:
        experiment = Experiment.open(options.exp)
        names = options.set_name or experiment.config.data.test
        compare(experiment, read_sets(options.data, names), options)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
