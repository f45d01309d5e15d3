"""What systems of paper 5 store and need, counted by hand, and the tables and pictures that show it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slimasr.claims.pathways import pictures, tables
from slimasr.claims.pathways.costs import stored, trained
from slimasr.claims.pathways.systems import systems_in
from slimasr.report.records import Run, Study
from slimasr.results.masks import MasksEntry
from tests.claims.pathway_kit import (
    LANGUAGES,
    TWO,
    dense,
    each,
    everything,
    joint,
    lap,
    masks,
    record,
    run,
    source,
)

FOUR = "+".join(LANGUAGES)
MINUTES = "all minutes of training (min)"


def study_of(runs: list[Run]) -> Study:
    return Study("made up", tuple(runs), ())


def test_bytes_are_those_of_values_and_bits() -> None:
    """Against a model of one matrix of 64 x 20 in blocks of 8 x 1 and 100 other weights, packed for two languages."""
    generator = np.random.default_rng(1)
    kept = generator.random((2, 8, 20)) < 0.3
    kept[:, 0, :6] = True
    kept[1] = np.roll(kept[0], 3, axis=1)
    union = np.repeat(kept.any(axis=0), 8, axis=0)
    values = np.ones((64, 20), np.float32)[union]
    other = np.ones(100, np.float32)
    wanted = values.nbytes + other.nbytes + sum(np.packbits(mask).nbytes for mask in kept)
    sparsity = 1 - kept[0].mean()
    entry = MasksEntry(
        prunable=64 * 20,
        blocks=160,
        params=64 * 20 + 100,
        union=union.mean(),
        union_all=0.0,
        sparsity=dict.fromkeys(TWO, sparsity),
    )
    # In int8 the 100 others are still four bytes each; a pathway has its own values and mask.
    own = 8 * kept[0].sum() + 20 + 400
    subnets = [record(name, {name: [1]}, costs={"int8_bytes": float(own)}) for name in TWO]
    (system,) = systems_in([run("Dynamic LTH-50, fr+nl", subnets, masks=entry)])
    size = stored(system)
    assert size is not None and size.float_bytes == pytest.approx(wanted)
    assert size.int8_bytes == pytest.approx(values.size + 400 + 2 * 20)


def test_models_for_one_language_are_stored_one_by_one_and_dense_ones_without_masks() -> None:
    (system,) = systems_in(each("LTH-70"))
    size = stored(system)
    # 30 % of 80,000 weights, 20,000 others, 10,000 bits; four times.
    assert size is not None and size.float_bytes == pytest.approx(4 * (4 * (24_000 + 20_000) + 1250))
    whole = stored(systems_in([dense()])[0])
    assert whole is not None and whole.float_bytes == 400_000 and whole.int8_bytes is None
    full = []
    for language, item in zip(LANGUAGES, each("unpruned"), strict=True):
        # Of a pathway that keeps everything, int8_bytes are those of all weights and of its mask of 10,000 bits.
        subnet = record(language, {language: [1]}, costs={"int8_bytes": 100_000 + 1250.0})
        full.append(replace(item, subnets=(subnet,), masks=masks([language], 1.0, 0.0)))
    without_masks = stored(systems_in(full)[0])
    assert without_masks is not None and without_masks.float_bytes == 4 * 400_000
    assert without_masks.int8_bytes == pytest.approx(4 * 100_000)


def test_training_includes_the_runs_that_found_the_masks_until_they_had() -> None:
    sources = {name: source(f"lth_{name}", 160, 0.5) for name in TWO}
    dynamic = joint("Dynamic LTH-50", TWO, steps=500, train_minutes=20.0, masks=masks(TWO, sources=sources))
    finders = [replace(item, name=f"lth_{item.role[-2:]}", train_minutes=30.0) for item in each("LTH-70")]
    system = systems_in([dynamic])[0]
    taken = trained(study_of([dynamic, *finders]), system)
    assert (taken.steps, taken.mask_steps, taken.all_steps) == (500, 320, 820)
    # 160 of 1000 steps in 30 minutes, for both languages.
    assert taken.mask_minutes == pytest.approx(9.6) and taken.all_minutes == pytest.approx(29.6)
    assert taken.start == ("dense",)
    # One run that found the mask of all languages is needed once.
    shared = {name: source("lap", step) for name, step in (("fr", 240), ("nl", 240))}
    from_lap = joint("Dynamic LAP-70", TWO, masks=masks(TWO, sources=shared))
    alone = trained(study_of([from_lap]), systems_in([from_lap])[0])
    assert (alone.mask_steps, alone.mask_minutes, alone.all_minutes) == (240, None, None)
    (four,) = systems_in(each("LTH-70"))
    assert trained(study_of([]), four).all_steps == 4000


def test_tables_of_the_paper_have_languages_as_columns() -> None:
    runs = everything()
    one, *others, costs = tables(study_of(runs))
    assert one.columns == ("model", "mask changes", "sparsity %", "training", *LANGUAGES, "mean")
    rows = {row[0]: row for row in one.rows}
    assert rows["LTH-70 adaptive"][1:4] == ("yes", "70", "each")
    assert rows[f"LAP-70, {FOUR}"][1:4] == ("no", "70", "all")
    assert rows[f"dense, {FOUR}"][1:4] == ("–", "0", "all")
    # One of four words is wrong in every utterance.
    assert rows["LTH-70"][4:] == (*["25.00 [24.00, 26.00]"] * 4, "25.00")
    assert [row[0] for row in one.rows] == [
        *(f"dense, {FOUR}", "unpruned", f"LAP-70, {FOUR}", "IMP-70", "LTH-70"),
        *(f"ASR Pathways {kind}-70, {FOUR}" for kind in ("LTH", "IMP")),
        *("IMP-70 adaptive", "LTH-70 adaptive"),
    ]
    titles = {table.title: [row[0] for row in table.rows] for table in others}
    assert titles.keys() == {"Paper 5, table 3", "Paper 5, table 2, fr and nl"}
    assert titles["Paper 5, table 3"] == [
        f"{name}, {FOUR}" for name in ("ASR Pathways LTH-70", "ASR Pathways IMP-70", "Dynamic LTH-50")
    ]
    assert len(titles["Paper 5, table 2, fr and nl"]) == 8
    assert len(costs.rows) == len(systems_in(runs))


def test_pictures_have_a_point_for_every_system_of_the_languages() -> None:
    runs = everything()
    four, two = pictures(study_of(runs))
    assert [picture.name for picture in (four, two)] == ["pathways", "pathways-2"]
    assert [chart.x.label for chart in two.charts] == ["stored bytes, packed (MB)", "all training steps", MINUTES]
    points = [{series.name: series.points[0] for series in chart.panels[0].series} for chart in two.charts]
    # Of the models for one language, those of the two; those of all four languages at once are no match.
    each_one = {"LTH-70 adaptive", "IMP-70 adaptive", "LTH-70", "IMP-70", "unpruned"}
    joined = {f"Dynamic {kind}-{level}" for kind in ("LTH", "LAP") for level in (70, 50, 20)}
    wanted = each_one | joined | {"ASR Pathways LTH-70", "ASR Pathways LAP-70"}
    assert [found.keys() for found in points] == [wanted] * 3
    assert (points[1]["LTH-70"].x, points[2]["LTH-70"].x, points[2]["LTH-70"].y) == (2000, 20.0, 25.0)
    assert "dense" in {series.name for series in four.charts[0].panels[0].series}


def test_all_languages_have_pictures_where_models_with_pathways_have_some_of_them() -> None:
    # Runs begin in another order than that of the languages.
    runs = [*reversed(each("LTH-70")), dense(), joint("Dynamic LTH-50", TWO)]
    four, two = pictures(study_of(runs))
    assert [picture.charts[0].title.partition(":")[0] for picture in (four, two)] == [FOUR, "+".join(TWO)]
    assert {series.name for series in four.charts[0].panels[0].series} == {"LTH-70", "dense"}
    *_, costs = tables(study_of(runs))
    assert [row[1] for row in costs.rows] == [FOUR, FOUR, "+".join(TWO)]


def test_ablations_and_models_without_a_size_are_left_out_of_pictures() -> None:
    ablation = replace(joint("Dynamic LTH-50", TWO), model="Dynamic LTH-50, fr+nl, n 50")
    untimed = lap(train_minutes=None)
    found = pictures(study_of([joint("Dynamic LTH-50"), ablation, untimed]))
    minutes = found[0].charts[-1]
    assert [series.name for series in minutes.panels[0].series] == ["Dynamic LTH-50"]
    assert len(found) == 1
