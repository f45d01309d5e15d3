"""The Python interface: load a run, choose a subnet, transcribe, extract."""

from __future__ import annotations

from pathlib import Path

from slimasr.decoding.transcribe import transcribe
from slimasr.experiment import Experiment
from slimasr.experiment.archive import read_candidates
from slimasr.experiment.extract import extract_experiment
from slimasr.experiment.subnets import all_subnets, find_subnet
from slimasr.supernet.front import Limits, best_under
from slimasr.supernet.subnet import Subnet


class Recognizer:
    """A trained supernet, or a stand-alone model cut out of one.

    >>> asr = slimasr.load("exp/slimmable")                     # doctest: +SKIP
    >>> small = asr.choose(max_int8_mb=0.5)                     # doctest: +SKIP
    >>> asr.transcribe("a.wav", small)                          # doctest: +SKIP
    'SEVEN FOUR'
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    @property
    def subnets(self) -> list[Subnet]:
        """All subnets, largest first. For a large space: max, the Pareto front of the search, and min.

        Raises:
            UserError: the space is large, and no search has been run.
        """
        return all_subnets(self.experiment)

    def choose(
        self,
        name: str | float | None = None,
        *,
        max_params: float | None = None,
        max_int8_mb: float | None = None,
        max_macs: float | None = None,
        max_rtf: float | None = None,
    ) -> Subnet:
        """The subnet with a name (a width, an id, ``max``, ``min``), or the best measured one under limits.

        Raises:
            UserError: there is no such subnet, no search has been run, or no subnet meets the limits (the message names
                the nearest one).
        """
        if name is not None:
            return find_subnet(self.experiment, str(name))
        # Without limits, this is the best of all measured subnets.
        limits = Limits.from_options(max_params, max_int8_mb, max_macs, max_rtf)
        return best_under(read_candidates(self.experiment), limits).subnet

    def transcribe(self, path: Path | str, subnet: Subnet | str | float = "max") -> str:
        """The text of an audio file of any sampling rate and length.

        Raises:
            UserError: the file is missing, unreadable or empty.
        """
        chosen = subnet if isinstance(subnet, Subnet) else self.choose(subnet)
        # One path yields one text.
        return next(transcribe(self.experiment, [path], chosen))

    def extract(self, subnet: Subnet | str | float, out: Path | str) -> Recognizer:
        """Write one subnet as a stand-alone experiment to the folder ``out``, and open it.

        Raises:
            UserError: ``out`` holds an experiment already.
        """
        chosen = subnet if isinstance(subnet, Subnet) else self.choose(subnet)
        extract_experiment(self.experiment, chosen, Path(out))
        return Recognizer(Experiment.open(Path(out)))
