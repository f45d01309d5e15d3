"""The systems that paper 5 compares: a model for several languages, or one model for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slimasr.claims.pathways.models import Model, is_ours, model_of
from slimasr.report.comparison.languages import on_tests, pooled_rate
from slimasr.report.comparison.pairs import Part
from slimasr.report.comparison.pairs import System as Subsystem
from slimasr.report.records import Run, Study


@dataclass(frozen=True)
class System:
    """Everything that recognises some languages in one way.

    Attributes:
        name: of the model, with its languages if it is trained on several.
        model: how masks were found and used; its languages are those of all runs.
        runs: language -> the run that serves it, the first seed; several languages may have the same run.
    """

    name: str
    model: Model
    runs: Mapping[str, Run]

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that it recognises."""
        return tuple(self.runs)

    @property
    def trained(self) -> tuple[Run, ...]:
        """Its runs, each once."""
        return tuple({run.role: run for run in self.runs.values()}.values())

    @property
    def is_joint(self) -> bool:
        """Whether one run serves all its languages."""
        return len(self.trained) == 1

    def part(self, language: str) -> Subsystem:
        """Return role and name of the subnet that serves a language.

        Raises:
            ValueError: the run of this language has none.
        """
        run = self.runs[language]
        record = run.serving(language)
        if record is None:
            raise ValueError(f"{run.name}: no subnet serves {language}")
        return run.role, run.label(record)

    def trained_on(self, languages: Sequence[str]) -> System | None:
        """Return the part that was trained on exactly these languages; None if there is none.

        A model for several languages has no parts. Of models for one language, those that are needed are taken.
        """
        if set(self.languages) == set(languages):
            return self
        if self.is_joint or not set(languages) <= set(self.languages):
            return None
        return System(self.name, self.model, {language: self.runs[language] for language in languages})


def systems_in(runs: Sequence[Run]) -> list[System]:
    """Return the systems of some runs: models for one language that differ by it alone are one system.

    All have their languages in one order, see `languages_of`.
    """
    grouped: dict[tuple[str, str, tuple[str, ...]], dict[str, Run]] = {}
    for run in filter(is_ours, runs):
        model = model_of(run)
        several = model.languages if len(model.languages) > 1 else ()
        served = grouped.setdefault((model.base, model.rest, several), {})
        for language in model.languages:
            # Seeds of a run have its role, so that the first one stands for all.
            if any(on_tests(record, language) for record in run.subnets):
                served.setdefault(language, run)
    systems = [_system(*key, served) for key, served in grouped.items() if served]
    return [_ordered(system, languages_of(systems)) for system in systems]


def _ordered(system: System, languages: Sequence[str]) -> System:
    """Return a system with its languages in the order of the given ones."""
    runs = {language: system.runs[language] for language in languages if language in system.runs}
    return System(system.name, replace(system.model, languages=tuple(runs)), runs)


def _system(base: str, rest: str, several: tuple[str, ...], runs: Mapping[str, Run]) -> System:
    words = (base, "+".join(several), rest)
    return System(", ".join(filter(None, words)), Model(base, tuple(runs), rest), runs)


def languages_of(systems: Sequence[System]) -> tuple[str, ...]:
    """Return all languages, in the order of the system that has most of them, if possible a single model."""
    ordered = sorted(systems, key=lambda system: (-len(system.languages), not system.is_joint))
    return tuple(dict.fromkeys(language for system in ordered for language in system.languages))


def find(systems: Sequence[System], base: str, languages: Sequence[str]) -> System | None:
    """Return the system with the usual settings that was trained on exactly these languages (`System.trained_on`).

    Args:
        systems: where to look.
        base: how masks were found and used, see `Model`.
        languages: the languages, at least one.
    """
    usual = [system for system in systems if system.model.base == base and not system.model.rest]
    return next(filter(None, (system.trained_on(languages) for system in usual)), None)


def joint_languages(systems: Sequence[System]) -> list[tuple[str, ...]]:
    """Return the sets of languages on which runs with several pathways were trained, the largest first."""
    found: dict[frozenset[str], tuple[str, ...]] = {}
    for system in systems:
        several = [record for run in system.trained for record in run.subnets if record.pathway in system.languages]
        if system.is_joint and len(several) > 1:
            found.setdefault(frozenset(system.languages), system.languages)
    return sorted(found.values(), key=lambda languages: -len(languages))


def parts_of(a: System, b: System, languages: Sequence[str]) -> tuple[Part, ...]:
    """Return what two systems are compared by, language by language."""
    return tuple(Part(a.part(language), b.part(language), language) for language in languages)


def wer_in(study: Study, system: System, language: str) -> float | None:
    """Return the WER over the test sets of a language in percent, its mean over the seeds; None if it is not known."""
    role, subnet = system.part(language)
    records = [run.subnet(subnet) for run in study.with_role(role)]
    wers = [pooled_rate(list(on_tests(record, language).values())) for record in records if record is not None]
    known = [wer for wer in wers if wer is not None]
    return sum(known) / len(known) if known else None


def mean_wer(study: Study, system: System, languages: Sequence[str]) -> float | None:
    """Return the unweighted mean of the WERs in some languages; None if one of them is not known."""
    wers = [wer_in(study, system, language) for language in languages if language in system.runs]
    known = [wer for wer in wers if wer is not None]
    return sum(known) / len(known) if known and len(known) == len(languages) else None
