"""Recognise the models of paper 5 by how their masks were found and used, from their configurations.

Masks that a run has begun with are named after the run that found them: LTH if it went back to its initial weights
after every pruning, IMP if not, and LAP if it found one mask for all languages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mode
from typing import Any

from slimasr.claims.asked import families_with
from slimasr.config.pathways import PathwaysConfig
from slimasr.config.schema import Config
from slimasr.config.space import PathwaySpaceConfig
from slimasr.report.comparison.families import Family
from slimasr.report.comparison.languages import languages_of
from slimasr.report.records import Run, Study
from slimasr.report.roles import Described, Name, in_words
from slimasr.results.masks import MasksEntry, MaskSource
from slimasr.supernet.subnet import ANY_LANGUAGE

IMP, LTH, LAP, REWOUND_LAP = "IMP", "LTH", "LAP", "rewound LAP"
ADAPTIVE = "adaptive"
DENSE, SMALL, UNPRUNED = "dense", "small dense", "unpruned"
FIXED_PATHWAYS, DYNAMIC = "ASR Pathways", "Dynamic"

OWN = (DENSE, SMALL, UNPRUNED, IMP, LTH, LAP, REWOUND_LAP, FIXED_PATHWAYS, DYNAMIC)
"""What the names of the paper's models begin with."""

_SETTINGS = (
    "prune_interval",
    "adapt_interval",
    "adapt_until",
    "residual",
    "zeroing",
    "keep_moments",
    "group_lasso",
)
"""Keys of the method whose values a name tells if they are not those of most runs of its kind."""

_WORDS = {"adapt_interval": "n"}
"""Keys -> their names in the paper."""


@dataclass(frozen=True)
class Model:
    """What a short name such as ``Dynamic LTH-50, fr+nl, no residual`` says.

    Attributes:
        base: how masks were found and used: ``dense``, ``small dense``, ``unpruned``, ``LTH-70``, ``LTH-70 adaptive``,
            ``LAP-70``, ``ASR Pathways LTH-70``, ``Dynamic LTH-50``.
        languages: languages on which it was trained, in the order of the recipe; empty if they are not known.
        rest: what else sets the model apart, empty for the usual settings.
    """

    base: str
    languages: tuple[str, ...]
    rest: str = ""

    @property
    def is_adaptive(self) -> bool:
        """Whether its masks adapted between prunings."""
        return self.base.startswith(DYNAMIC) or self.base.endswith(ADAPTIVE)


def fixed(masks: str, percent: int = 70) -> str:
    """Return the base of a run that found masks, which stay: ``LTH-70``."""
    return f"{masks}-{percent}"


def adaptive(masks: str, percent: int = 70) -> str:
    """Return the base of a run whose masks adapt: ``LTH-70 adaptive``."""
    return f"{fixed(masks, percent)} {ADAPTIVE}"


def asr_pathways(masks: str, percent: int = 70) -> str:
    """Return the base of a run with given masks that stay: ``ASR Pathways LTH-70``."""
    return f"{FIXED_PATHWAYS} {fixed(masks, percent)}"


def dynamic(masks: str, percent: int) -> str:
    """Return the base of a run with given masks that adapt: ``Dynamic LTH-50``."""
    return f"{DYNAMIC} {fixed(masks, percent)}"


MAIN = dynamic(LTH, 50)
"""The method in full, as the paper recommends it."""


def role(described: Described, supernets: Sequence[Config]) -> Name | None:
    """Return the name of a run with pathways, or of a dense model in a family that has such runs."""
    mates = [other for other in supernets if isinstance(other.method, PathwaysConfig)]
    config = described.config
    if not mates:
        return None
    if described.separate_of is not None:
        words = _dense_words(config, mates[0])
    elif isinstance(config.method, PathwaysConfig):
        words = _words(config, described.masks, mates)
    else:
        return None
    model = ", ".join(words)
    return Name((model,), model, is_main=words[0] == MAIN and len(words) == 2)


def _dense_words(config: Config, mate: Config) -> list[str]:
    ours, theirs = (
        (other.model.encoder.d_model, other.model.encoder.num_layers, other.model.encoder.unit_sizes)
        for other in (config, mate)
    )
    # The paper's reference for one language is as large as what a pathway keeps.
    words = [DENSE if ours == theirs else SMALL, "+".join(_languages(config))]
    sampling = config.data.model_dump(mode="json").get("language_sampling", "natural")
    return words if sampling == "natural" else [*words, f"sampling {_value(sampling)}"]


def _words(config: Config, masks: MasksEntry | None, mates: Sequence[Config]) -> list[str]:
    """The parts of the name of a run with pathways."""
    alike = [other for other in mates if _kind(other) == _kind(config)]
    words = [_base(_method(config), masks, _is_for_all(config)), "+".join(_languages(config))]
    words += _differences(_method(config), [_method(other) for other in alike])
    for name, section, key in (("sampling", "data", "language_sampling"), ("block", "space", "block")):
        values = [_value(getattr(other, section).model_dump(mode="json").get(key)) for other in (config, *alike)]
        if values[0] != mode(values[1:]):
            words.append(f"{name} {values[0]}")
    return words


def _method(config: Config) -> PathwaysConfig:
    assert isinstance(config.method, PathwaysConfig)
    return config.method


def _kind(config: Config) -> tuple[str, bool, bool]:
    """What runs have in common whose settings are compared."""
    method = _method(config)
    return method.masks, method.masks_from is None, len(_languages(config)) > 1


def _differences(method: PathwaysConfig, mates: Sequence[PathwaysConfig]) -> Iterator[str]:
    """Yield the settings in which a run differs from most runs of its kind."""
    levels = [_value(mate.levels) for mate in mates if bool(mate.levels) == bool(method.levels)]
    if _value(method.levels) != mode(levels):
        yield f"levels {_value(method.levels)}"
    for key in _SETTINGS:
        value = getattr(method, key)
        if value == mode(getattr(mate, key) for mate in mates):
            continue
        name = _WORDS.get(key, key.replace("_", " "))
        if isinstance(value, bool):
            yield name if value else f"no {name}"
        else:
            yield f"{name} {_value(value)}"


def _value(value: Any) -> str:
    """A value of a configuration in words; those of lists and sections with slashes between."""
    if isinstance(value, Mapping):
        return "/".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "/".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else in_words(value)


def _base(method: PathwaysConfig, masks: MasksEntry | None, is_for_all: bool) -> str:
    """How masks were found and used."""
    adapts = method.masks == ADAPTIVE
    if method.masks_from is not None:
        # Until the training is complete, nothing says how the masks were found.
        kinds = dict.fromkeys(map(_found_by, masks.sources.values() if masks else ())) or {"masks": None}
        return f"{DYNAMIC if adapts else FIXED_PATHWAYS} {fixed('/'.join(kinds), _percent(method.start_level))}"
    if not method.levels:
        return UNPRUNED
    base = fixed(_finder(is_for_all, method.rewind), _percent(method.levels[-1]))
    return f"{base} {ADAPTIVE}" if adapts else base


def _found_by(source: MaskSource) -> str:
    name = _finder(tuple(source.languages) == (ANY_LANGUAGE,), source.rewind)
    return f"{ADAPTIVE} {name}" if source.adaptive else name


def _finder(is_for_all: bool, rewinds: bool) -> str:
    """How masks are found: the paper finds that of all languages as IMP does."""
    if is_for_all:
        return REWOUND_LAP if rewinds else LAP
    return LTH if rewinds else IMP


def _percent(level: float) -> int:
    return round(100 * level)


def _is_for_all(config: Config) -> bool:
    return _space_languages(config) == [ANY_LANGUAGE]


def _space_languages(config: Config) -> list[str]:
    return config.space.languages if isinstance(config.space, PathwaySpaceConfig) else []


def _languages(config: Config) -> Sequence[str]:
    """The languages on which a model was trained: those of its pathways, else those that its sets name."""
    named = _space_languages(config)
    return named if named and not _is_for_all(config) else languages_of(config.data.train)


def model_of(run: Run) -> Model:
    """Read the short name of a run of the paper."""
    base, languages, *rest = run.model.split(", ")
    return Model(base, tuple(filter(None, languages.split("+"))), ", ".join(rest))


def is_ours(run: Run) -> bool:
    """Return whether this is a run with pathways, or a dense model beside such runs."""
    return run.model.startswith(OWN) and ", " in run.model


def has_pathways(run: Run) -> bool:
    """Return whether this is a run with pathways."""
    return is_ours(run) and not run.is_separate


def applies(study: Study) -> bool:
    """Return whether there is a run with pathways."""
    return any(map(has_pathways, study.runs))


def pathway_families(runs: Sequence[Run]) -> list[Family]:
    """Return the families that have a run with pathways."""
    return families_with(runs, has_pathways)
