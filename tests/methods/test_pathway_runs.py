"""Whole runs of pathways: the course of levels and masks, what is kept of them, interruptions, and bad recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from slimasr.errors import UserError
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.experiment.masks import final_masks
from slimasr.models.mask_files import read_level, read_masks
from slimasr.objective.objective import Objective
from slimasr.results.store import read_results
from slimasr.supernet.subnet import Subnet
from tests.methods.pathway_kit import Run, Stop, made_up_masks, recipe, train
from tests.methods.test_pathways import HOT, is_plus_zero, largest
from tests.training.kit import assert_equal

TWO = ("fr", "nl")


def test_levels_prune_all_languages_at_once_among_what_others_leave(tmp_path: Path) -> None:
    """Every new mask follows from the old ones of all: its own weights and those that no other language had."""
    start = made_up_masks(tmp_path / "start", recipe(TWO))
    for masks in ("fixed", "adaptive"):
        config = recipe(TWO, HOT, masks=masks, levels=[0.2, 0.5, 0.7], prune_interval=0.1, masks_from=f"{start}@0.5")
        run = Run(config, tmp_path / masks).steps(2)
        assert run.method.sparsity == 0.5
        old = {name: run.masks(name) for name in TWO}
        run.step()
        assert run.method.history.levels == [(0.7, 3)], "levels up to that of the first masks are left out"
        for name, other in (TWO, TWO[::-1]):
            for matrix, mask in run.masks(name).items():
                allowed = old[name][matrix] | (~old[other][matrix] if masks == "adaptive" else False)
                assert torch.equal(mask, largest(run.before[matrix], 0.7, allowed)), (masks, matrix)
        for matrix, weight in run.weights.items():
            kept = run.masks("fr")[matrix] | run.masks("nl")[matrix]
            assert is_plus_zero(weight[~kept])
            assert torch.equal(weight[kept], run.before[matrix][kept])


def test_languages_adapt_by_their_own_steps_and_in_turn(tmp_path: Path) -> None:
    """Only the mask of a language changes, among what the other one leaves; the sparsity stays."""
    start = made_up_masks(tmp_path / "start", recipe(TWO))
    config = recipe(TWO, HOT, levels=[], masks_from=f"{start}@0.5", adapt_interval=4)
    run = Run(config, tmp_path / "exp")
    counts = dict.fromkeys(TWO, 0)
    changed = 0
    for _ in range(18):
        old = {name: run.masks(name) for name in TWO}
        choices = sum(map(len, run.method.history.adaptations.values()))
        batch = next(run.batches.train_batches(run.trainer.state.epoch + 1, run.trainer.state.batch))
        run.step(batch)
        name, other = TWO if batch.key == "fr" else TWO[::-1]
        counts[name] += 1
        due = counts[name] % 4 == {"fr": 0, "nl": 2}[name]
        assert sum(map(len, run.method.history.adaptations.values())) == choices + due
        for matrix, mask in run.masks(name).items():
            assert torch.equal(run.masks(other)[matrix], old[other][matrix])
            expected = old[name][matrix]
            if due:
                expected = largest(run.before[matrix], 0.5, expected | ~old[other][matrix])
                changed += not torch.equal(expected, old[name][matrix])
                assert is_plus_zero(run.weights[matrix][~mask & ~old[other][matrix]])
            assert torch.equal(mask, expected)
    assert changed > 0
    assert counts == {"fr": 9, "nl": 9}


@pytest.mark.parametrize("languages", [("fr",), TWO])
def test_masks_that_never_adapt_are_fixed_ones(tmp_path: Path, languages: tuple[str, ...]) -> None:
    """An interval beyond the run, without levels: the same weights bit for bit, and the same masks."""
    start = made_up_masks(tmp_path / "start", recipe(languages))
    ends = []
    for masks, interval in (("fixed", 5), ("adaptive", 24)):
        config = recipe(languages, masks=masks, levels=[], masks_from=f"{start}@0.5", adapt_interval=interval)
        train(Run(config, tmp_path / masks))
        ends.append(load_checkpoint(tmp_path / masks / "final.pt")["model"])
    assert_equal(*ends)


def test_masks_for_all_languages_are_equal_until_they_part(tmp_path: Path) -> None:
    """With equal masks nobody's weights are exclusive: every batch trains all weights (paper 5, equation 1)."""
    start = made_up_masks(tmp_path / "lap", recipe(("all",)))
    config = recipe(TWO, HOT, levels=[], masks_from=f"{start}@0.5", adapt_interval=6)
    run = Run(config, tmp_path / "exp").steps(2)
    objective, context = run.trainer.objective, run.trainer.context()
    batch = run.batches.make(["a", "b"], "nl")
    assert run.method.history.adaptations == {}
    assert all(torch.equal(mask, run.masks("nl")[matrix]) for matrix, mask in run.masks("fr").items())
    item = run.method.plan(batch, context)[0]
    assert run.method.substitutes(objective, item, batch, context) == {}
    run.steps(16)
    assert any(not torch.equal(mask, run.masks("nl")[matrix]) for matrix, mask in run.masks("fr").items())
    stand_ins = run.method.substitutes(objective, item, batch, run.trainer.context())
    assert {f"model.{matrix}" for matrix in run.weights} == stand_ins.keys()


def test_rewinding_keeps_masks_alone(tmp_path: Path) -> None:
    """Weights are those of the beginning within the mask, the optimiser is a new one, and the rate goes on."""
    training = {"init": {"from": "exp/dense"}, "log_every": 1}
    for masks in ("fixed", "adaptive"):
        config = recipe(training=training, masks=masks, levels=[0.3, 0.6], prune_interval=0.1, rewind=True)
        run = Run(config, tmp_path / masks).steps(2)
        rates = [run.trainer.state.lr]
        optimizer = run.trainer.stepper.optimizer
        expected = {name: largest(weight, 0.3) for name, weight in run.steps(1).before.items()}
        rates.append(run.trainer.state.lr)
        model = run.trainer.objective.model
        for name, value in model.state_dict().items():
            if name in expected:
                assert torch.equal(value, torch.where(expected[name], run.start[name], 0.0)), name
                assert torch.equal(run.masks("fr")[name], expected[name])
            elif value.dtype != torch.bool:
                assert torch.equal(value, run.start[name]), name
        run.step()
        assert run.trainer.stepper.optimizer is not optimizer
        assert {float(state["step"]) for state in run.trainer.stepper.optimizer.state.values()} == {1}
        assert rates[1] - run.trainer.state.lr == pytest.approx(rates[0] - rates[1], rel=1e-6)


def test_a_pruning_that_falls_on_a_skipped_step_happens_at_the_next_one(tmp_path: Path) -> None:
    config = recipe(masks="fixed", levels=[0.5], prune_interval=0.1)
    run = Run(config, tmp_path, poisoned=["bad"]).steps(2)
    assert run.step(run.batches.make(["bad"], "fr")).skipped
    assert run.method.history.levels == []
    assert run.method.history.steps == {"fr": 2}
    run.step()
    assert run.method.history.levels == [(0.5, 4)]


def test_averages_begin_behind_the_last_change_of_a_mask(tmp_path: Path) -> None:
    """Equally for fixed and adaptive masks, and never if these adapt to the end."""
    start = made_up_masks(tmp_path / "start", recipe())
    for masks in ("fixed", "adaptive"):
        for until, count in ((0.8, 3), (1.0, 0)):
            method = {"masks": masks, "levels": [0.7], "adapt_interval": 5, "adapt_until": until}
            config = recipe(training={"num_epochs": 2}, masks_from=f"{start}@0.5", prune_interval=0.2, **method)
            run = Run(config, tmp_path / f"{masks}{until}").steps(12)
            # After 10 (9.6 is the place) to 12 steps
            assert run.trainer.average.count == count
            assert run.method.settled()


LTH = {"levels": [0.3, 0.6], "prune_interval": 0.1, "rewind": True, "adapt_interval": 4, "adapt_until": 0.6}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(interrupted(), tmp_path_factory.mktemp("whole"))
    train(run)
    return run


def interrupted() -> Any:
    training = {**HOT, "init": {"from": "exp/dense"}, "checkpoint_minutes": 1e-9, "num_epochs": 2}
    # Prunings behind steps 2 and 3, and the last choice of the masks behind step 8
    return recipe(TWO, training, **LTH)


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 8])
def test_a_killed_run_goes_on_exactly_where_it_stopped(whole: Run, tmp_path: Path, stop_at: int) -> None:
    """Before, at and after prunings with their rewinds, adaptations, and the last choice of the masks."""
    assert [step for _, step in whole.method.history.levels] == [2, 3]
    choices = {step for steps in whole.method.history.adaptations.values() for step, _ in steps}
    assert choices == {4, 8}, "an adaptation, and the last choice"
    with pytest.raises(Stop):
        train(Run(interrupted(), tmp_path), stop_at)
    train(Run(interrupted(), tmp_path))
    ends = [load_checkpoint(exp / "checkpoints" / "epoch-002.pt") for exp in (whole.exp, tmp_path)]
    for end in ends:
        end["state"].pop("seconds")
    assert_equal(*ends)
    assert_equal(*(load_checkpoint(exp / "final.pt") for exp in (whole.exp, tmp_path)))
    for level in (0.3, 0.6):
        assert_equal(*(read_level(exp, level, "").to_dict() for exp in (whole.exp, tmp_path)))


def test_what_a_run_leaves_behind(whole: Run) -> None:
    """Zeros outside of all masks, masks in the weights and in files, and facts about them."""
    final = load_checkpoint(whole.exp / "final.pt")["model"]
    masks = {name: whole.masks(name) for name in TWO}
    for matrix, weight in whole.weights.items():
        assert torch.equal(final[matrix], weight)
        assert is_plus_zero(weight[~(masks["fr"][matrix] | masks["nl"][matrix])])
    saved = final_masks(whole.exp)
    assert saved is not None
    assert (saved.languages, saved.level, saved.rewind, saved.adaptive, saved.steps) == (TWO, 0.6, True, True, 12)
    assert_equal(saved.to_dict(), read_masks(whole.exp / "masks" / "level-0.6.pt").to_dict())
    for matrix in whole.weights:
        assert torch.equal(saved.masks[matrix], whole.pathways.masks(matrix))
    assert read_level(whole.exp, 0.3, "").step == 2
    facts = read_results(whole.exp).to_dict()["masks"]
    assert facts["levels"] == [{"sparsity": 0.3, "step": 2}, {"sparsity": 0.6, "step": 3}]
    rows = {name: torch.cat([mask.flatten() for mask in masks[name].values()]) for name in TWO}
    either, both = rows["fr"] | rows["nl"], rows["fr"] & rows["nl"]
    assert facts["prunable"] == 8 * facts["blocks"] == len(either)
    assert facts["union"] == pytest.approx(float(either.double().mean()))
    assert facts["sparsity"] == pytest.approx({name: 1.0 - float(row.double().mean()) for name, row in rows.items()})
    (overlap,) = facts["overlaps"]
    assert overlap["entries"] == pytest.approx(float((rows["fr"] == rows["nl"]).double().mean()))
    assert overlap["kept"] == pytest.approx(2.0 * int(both.sum()) / (int(rows["fr"].sum()) + int(rows["nl"].sum())))
    assert facts["adaptations"].keys() == set(TWO)
    assert {len(part["steps"]) - len(part["changed"]) for part in facts["adaptations"].values()} == {0}


def test_a_pathway_of_the_final_weights_is_its_mask_of_them(whole: Run) -> None:
    model = whole.trainer.objective.model
    alone = model.extract(Subnet(pathway="nl"))
    for matrix, mask in whole.masks("nl").items():
        assert torch.equal(alone.get_parameter(matrix), torch.where(mask, whole.weights[matrix], 0.0))


@pytest.mark.parametrize("languages", [("fr",), TWO])
def test_validation_runs_a_pathway_without_what_is_trained_besides(tmp_path: Path, languages: tuple[str, ...]) -> None:
    """The predictor as well; the weights that may come back are not zero meanwhile."""
    start = made_up_masks(tmp_path / "start", recipe(languages))
    config = recipe(languages, HOT, levels=[], masks_from=f"{start}@0.5", adapt_interval=23)
    run = Run(config, tmp_path / "exp").steps(4)
    model = run.trainer.objective.eval().model
    batch = run.batches.make(["a", "b"])
    item = run.method.evaluated()[-1]
    assert (item.name, item.language) == (languages[-1], languages[-1])
    context = replace(run.trainer.context(), validating=True)
    with torch.no_grad():
        found = run.method.forward_pass(
            run.trainer.objective, replace(item, losses={"transducer": 1.0}), batch, context
        )
        dense = run.trainer.objective(batch, Subnet(), ("transducer",))
        alone = Objective(model.extract(Subnet(pathway=item.name)), run.trainer.objective.config).eval()
        expected = alone(batch, Subnet(), ("transducer",))
        assert run.method.forward_pass(alone, item, batch, context).encoder is not None
    torch.testing.assert_close(found.losses["transducer"], expected.losses["transducer"], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found.losses["transducer"], dense.losses["transducer"], rtol=1e-3)


# Recipes that cannot be trained


@pytest.mark.parametrize(
    ("languages", "training", "method", "message"),
    [
        (("fr",), {}, {"levels": [0.5, 0.2]}, "levels: must rise"),
        (
            ("fr",),
            {},
            {"levels": [0.5], "prune_interval": 0.9},
            "method.levels: 1 prunings, .*method.adapt_until, 0.8",
        ),
        (("fr",), {}, {"masks": "fixed", "prune_interval": 0.3}, "method.levels: 4 prunings, .* before its end"),
        (("fr",), {"average_start": 0.5}, {}, "training.average_start: must be at least 0.8"),
        (("fr",), {}, {"rewind": True}, "method.rewind: needs the weights"),
        (
            ("fr",),
            {"init": {"from": "exp/dense", "weights": "matching"}},
            {"rewind": True},
            "training.init.weights: method.rewind goes back to all weights",
        ),
        (
            ("fr",),
            {"init": {"from": "exp/dense", "freeze": ["encoder.*"]}},
            {},
            "training.init.freeze: method pathways prunes weights",
        ),
        (TWO, {}, {"masks_from": {"fr": "exp/a@0.5"}}, "method.masks_from: must name every language .*it names fr"),
        (TWO, {}, {"masks_from": {"fr": "a@0.5", "en": "a@0.5"}}, "masks_from: must name every .*it names fr, en"),
        (TWO, {}, {"masks_from": {"fr": "a@0.5", "nl": "a@0.7"}}, "must have the same sparsity"),
        (("fr",), {}, {"masks_from": "exp/a"}, "must be an experiment folder and a sparsity such as"),
    ],
)
def test_recipes_that_are_refused(
    languages: tuple[str, ...], training: dict[str, Any], method: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(languages, training, **method)


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    start = made_up_masks(tmp_path / "fr", recipe())
    for place, languages, changes, message in (
        (f"{start}@0.7", ("fr",), {}, "has no masks of sparsity 0.7; it has masks of 0.5"),
        (f"{tmp_path / 'none'}@0.7", ("fr",), {}, "method.masks_from, fr: there is no experiment folder"),
        (f"{tmp_path}@0.7", ("fr",), {}, "it has no masks of any sparsity"),
        (f"{start}@0.5", TWO, {}, "has no mask of nl, only of fr"),
        (f"{start}@0.5", ("fr",), {"block": (4, 1)}, "masks of 8 x 1 blocks do not fit space.block, 4 x 1"),
        (f"{start}@0.5", ("fr",), {"dim": 16}, r"predictor.lstm.weight_ih_l0 has 48 x 8 weights, not 64 x 8"),
    ):
        config = recipe(languages, levels=[], masks_from=place)
        if "block" in changes:
            config = config.model_copy(update={"space": config.space.model_copy(update=changes)})
        if "dim" in changes:
            predictor = config.model.predictor.model_copy(update=changes)
            config = config.model_copy(update={"model": config.model.model_copy(update={"predictor": predictor})})
        with pytest.raises(UserError, match=message):
            Run(config, tmp_path / "exp")
    (start / "masks" / "level-0.5.pt").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match=r"level-0.5.pt: damaged file of masks"):
        Run(recipe(levels=[], masks_from=f"{start}@0.5"), tmp_path / "exp")


def test_batches_and_runs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    run = Run(recipe(TWO, levels=[]), tmp_path / "two")
    for language, message in (("en", "its language en has no pathway"), (None, "has no language")):
        with pytest.raises(UserError, match=f"^a: {message}; space.languages are fr, nl"):
            run.step(run.batches.make(["a"], language))
    run = Run(recipe(levels=[0.2, 0.5], prune_interval=0.04), tmp_path / "short")
    with pytest.raises(UserError, match="method.levels: 2 prunings, .* do not fit into its 24 optimiser steps"):
        run.step()
