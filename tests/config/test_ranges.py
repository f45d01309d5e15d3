"""Every number of the schema has a range, and what is outside it is refused by the key's name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from slimasr.config.load import load_config, parse_config
from slimasr.config.schema import Config
from slimasr.config.section import Bounds
from slimasr.errors import UserError

MINIMAL: dict[str, Any] = {"name": "test", "data": {"corpus": "an4"}}

Leaf = tuple[str, Any, tuple[Any, ...]]


def numbers(section: type[BaseModel], place: str = "") -> Iterator[Leaf]:
    """Every ``int`` and ``float`` below a section, inside lists, tuples, mappings and unions too: (key, type,
    metadata)."""
    for name, field in section.model_fields.items():
        yield from _numbers(field.annotation, tuple(field.metadata), f"{place}{name}")


def _numbers(annotation: Any, metadata: tuple[Any, ...], place: str) -> Iterator[Leaf]:
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from _numbers(inner, (*metadata, *more), place)
    elif annotation in (int, float):
        yield place, annotation, metadata
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from numbers(annotation, f"{place}({annotation.__name__}).")
    else:
        for part in get_args(annotation):
            yield from _numbers(part, () if part in (int, float) else metadata, place)


# Options of a corpus may be anything plain; each corpus checks those that it knows.
LEAVES = [leaf for leaf in numbers(Config) if leaf[0] != "data(DataConfig).options"]


def test_the_walk_finds_the_schema_s_numbers() -> None:
    names = {name.rpartition(".")[2] for name, _, _ in LEAVES}
    assert {"seed", "snr", "speeds", "betas", "limits", "widths", "depths", "units", "ffn_dims", "kd_weight"} <= names
    assert len(LEAVES) > 120


@pytest.mark.parametrize(("name", "kind", "metadata"), LEAVES, ids=[leaf[0] for leaf in LEAVES])
def test_every_number_has_a_range_and_is_finite(name: str, kind: type, metadata: tuple[Any, ...]) -> None:
    bounds = [item for item in metadata if isinstance(item, Bounds)]
    assert len(bounds) == 1, f"{name} needs one of the types of slimasr/config/section.py"
    adapter = TypeAdapter(Annotated[kind, bounds[0]])
    below = bounds[0].low if bounds[0].above else bounds[0].low - 1
    wrong = [math.nan, math.inf, -math.inf, True, False, "5", "abc", "", None, [], below]
    if bounds[0].high is not None:
        wrong.append(bounds[0].high if bounds[0].below else 2 * bounds[0].high + 1)
    if kind is int:
        wrong += [0.5, 1e30, 10**30]
    for value in wrong:
        with pytest.raises(ValidationError, match="must be"):
            adapter.validate_python(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batch_seconds=-5", "data.batch_seconds: must be above 0, got -5"),
        ("data.batch_seconds=0", "data.batch_seconds: must be above 0, got 0"),
        ("data.batch_seconds=.nan", "data.batch_seconds: must be a number, above 0, got nan"),
        ("data.batch_seconds='200'", "data.batch_seconds: must be a number, above 0, got '200'"),
        ("decoding.batch_seconds=.inf", "decoding.batch_seconds: must be a number, above 0, got inf"),
        ("training.num_epochs=true", "training.num_epochs: must be a whole number, at least 1, got True"),
        ("training.num_epochs=1e30", "training.num_epochs: must be at most 2147483647, got '1e30'"),
        ("training.num_epochs=2.5", "training.num_epochs: must be a whole number, at least 1, got 2.5"),
        ("encoder.dropout=1", "model.encoder.dropout: must be at least 0 and below 1, got 1"),
        ("loss.simple_scale=1.5", "loss.simple_scale: must be at least 0 and at most 1, got 1.5"),
        ("loss.delay_penalty=.nan", "loss.delay_penalty: must be a number, at least -1000"),
        ("data.speeds=[1.0, .nan]", "data.speeds.1: must be a number, at least 0.1 and at most 10, got nan"),
        ("data.speeds=[1.0, 1.0]", "data.speeds: needs at least one factor, all different"),
        ("data.speeds=[1.0, 1.0000001]", "data.speeds: needs at least one factor, all different"),
        ("data.musan={snr: [-.inf, 10]}", "data.musan.snr.0: must be a number"),
        ("data.musan={snr: [20, 10]}", "data.musan.snr: the lower bound must not exceed the upper one"),
        ("data.min_cut_seconds=40", "data.min_cut_seconds: must not exceed data.max_cut_seconds"),
        ("data.train=[]", "data.train: needs at least one set"),
        ("data.train=[train, train]", "data.train: needs at least one set, all different"),
        ("data.train=['']", "data.train.0: must not be empty"),
        ("data.dev=a/../b", "data.dev: must be a name that can be part of a file name"),
        ("data.options={voices: .nan}", "data.options.voices: must be a finite number, a text, true or false, got nan"),
        ("data.sampling_rate=1", "data.sampling_rate: must be at least 1000"),
        ("name=", "name: input should be a valid string, got None"),
        ("name='  '", "name: must not be empty"),
        ("name='a\n\nb'", "name: must not hold line breaks"),
        ("space={kind: layers, depths: [2, -1]}", "space.depths.1: must be at least 1, got -1"),
        ("space={kind: layers, depths: [2], units: {ffn1: [.inf]}}", "space.units.ffn1.0: must be a whole number"),
        ("space.widths=[1.0, 0]", "space.widths.1: must be above 0 and at most 1, got 0"),
        ("optimizer.betas=[0.9, 1.0]", "training.optimizer.betas.1: must be at least 0 and below 1, got 1.0"),
        ("search.limits={params: -1}", "search.limits.params: must be above 0, got -1"),
        ("search={kind: nsga2, population: 1}", "search.population: must be at least 2, got 1"),
        ("search.storage=''", "search.storage: must not be empty"),
        ("seed=-1", "seed: must be at least 0, got -1"),
        ("method={kind: todm, phases: [{epoch: 2, kd_weight: -.inf}]}", "method.phases.0.kd_weight: must be a number"),
        ("method={kind: todm, validated: []}", "method.validated: needs at least one subnet"),
        ("loss.distillation={alpha_min: 1, alpha_max: 0}", "loss.distillation.alpha_min: must not exceed alpha_max"),
        ("training.schedule={kind: noam, warmup: 0}", "training.schedule.warmup: noam needs a fraction above 0"),
        ("training.schedule={kind: tri_stage}", "training.schedule.final_scale: tri_stage decays exponentially"),
    ],
)
def test_impossible_values_are_refused_by_key_and_range(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(UserError) as caught:
        load_config(path, [override])
    assert message in str(caught.value)


def test_numbers_with_an_exponent_and_whole_floats_are_numbers() -> None:
    config = parse_config({**MINIMAL, "training": {"optimizer": {"lr": "1e-4"}, "num_epochs": 5.0, "clip_norm": 2}})
    assert config.training.optimizer.lr == 1e-4
    assert (config.training.num_epochs, type(config.training.num_epochs)) == (5, int)
    assert (config.training.clip_norm, type(config.training.clip_norm)) == (2.0, float)
    assert parse_config({**MINIMAL, "seed": 2**40}).seed == 2**40
