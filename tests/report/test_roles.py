"""What an experiment stands for follows from its configuration, also where no paper knows its method."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from slimasr.config.model import CtcConfig
from slimasr.config.schema import Config
from slimasr.report.roles import Described, Name, roles_of
from tests.report.made_up_configs import ADAPTIVE, CONFORMER, LAYERS, MH_SSM, config, described, separate, taught
from tests.report.made_up_masks import mask_recipe, recipe

MASKED = mask_recipe()
ALONE = recipe({"kind": "widths", "widths": [1.0]}, {"kind": "separate"}, {"num_layers": 2})


def names_of(*supernets: Config) -> list[str]:
    return [role.name for role in roles_of({str(n): described(made) for n, made in enumerate(supernets)}).values()]


@pytest.mark.parametrize(
    ("words", "other"),
    [
        ("num random 4", config(num_random=4)),
        ("adaptive dropout", config(ADAPTIVE)),
        ("distillation", config(loss=taught("kl"))),
        ("no share predictor", config(share_predictor=False)),
        ("other depths", config(space={**LAYERS, "depths": [8]})),
        ("phases", config(phases=[{"epoch": 21, "optimizer": {"kind": "scaled_adam"}}])),
    ],
)
def test_supernets_of_a_method_are_told_apart_by_what_they_do_not_share(words: str, other: Config) -> None:
    assert names_of(config(), other) == ["todm", f"todm, {words}"]


def test_runs_that_differ_elsewhere_share_a_role() -> None:
    assert names_of(config(), config(training={"num_epochs": 90})) == ["todm", "todm"]


def test_runs_that_begin_with_a_trained_model_are_told_apart_by_it_and_by_their_length() -> None:
    begun = {"init": {"from": "exp/dense", "weights": "matching"}}
    found = names_of(
        config(training={"num_epochs": 5}),
        config(training={"num_epochs": 5, **begun}),
        config(training={"num_epochs": 10}),
        config(training={"num_epochs": 10, "init": {"from": "exp/checkpoints/best.pt"}}),
    )
    assert found == ["todm", "todm, from dense", "todm, 10 epochs", "todm, from best, 10 epochs"]
    assert names_of(config(training=begun), config()) == ["todm", "todm, from scratch"]
    # A paper's name for a method says nothing of its start.
    runs = {"a": described(config()), "b": described(config(training=begun))}
    named = roles_of(runs, [lambda described, supernets: Name(("ours",), "M", is_main=True)])
    assert [(role.name, role.model, role.is_main) for role in named.values()] == [
        ("ours", "M", True),
        ("ours, from dense", "", False),
    ]
    later = separate().model_copy(update={"training": config(training=begun).training})
    alone = {"a": described(separate(), "w1"), "b": described(later, "w1")}
    assert [role.name for role in roles_of(alone).values()] == ["separate", "separate, from dense"]


def test_values_that_have_a_name_are_called_by_it() -> None:
    first = config(CONFORMER, {"kind": "widths"}, "slimmable")
    recalibrated = config({**CONFORMER, "norm": "recalibrated"}, {"kind": "widths"}, "slimmable")
    assert names_of(first, recalibrated) == ["slimmable", "slimmable, recalibrated norms"]


def test_separate_models_are_named_and_join_the_supernet_of_their_size() -> None:
    auxiliary = {"auxiliary": {"layers": [4, 8], "alignments": "exp/align"}}
    roles = roles_of(
        {
            "ours": described(config(), w1=900.0),
            "wide": described(config(CONFORMER, {"kind": "widths"}, "slimmable"), w1=1000.0),
            "a": described(separate(), "w1", w1=900.0),
            "b": described(separate(loss=auxiliary), "w1", w1=900.0),
            "c": described(separate(CONFORMER), "w1", w1=1000.0),
        }
    )
    assert {name: role.name for name, role in roles.items()} == {
        "ours": "todm",
        "wide": "slimmable, Conformer",
        "a": "separate",
        "b": "separate, auxiliary losses",
        "c": "separate, Conformer",
    }
    assert {role.model for role in roles.values()} == {""}


def test_kinds_of_models_are_families() -> None:
    first = config(CONFORMER, {"kind": "widths"}, "slimmable")
    ctc = first.model_copy(update={"model": CtcConfig(frontend=first.model.frontend, encoder=first.model.encoder)})
    roles = roles_of({"a": described(first), "b": described(ctc), "c": described(ctc)})
    assert {name: role.name for name, role in roles.items()} == {
        "a": "slimmable",
        "b": "slimmable, CTC Conformer",
        "c": "slimmable, CTC Conformer",
    }


def test_a_family_of_the_first_paper_comes_first() -> None:
    def paper(described: Described, supernets: Sequence[Config]) -> Name | None:
        is_ours = described.config.method.kind == "slimmable"
        return Name(("ours",), "X") if is_ours else None

    wide = config(CONFORMER, {"kind": "widths"}, "slimmable")
    experiments = {"other": described(config(MH_SSM)), "wide": described(wide), "alone": described(separate(), "w1")}
    roles = roles_of(experiments, [paper])
    assert {name: (role.name, role.model) for name, role in roles.items()} == {
        "other": ("todm, MH-SSM", ""),
        "wide": ("ours", "X"),
        "alone": ("separate, MH-SSM", ""),
    }


def test_models_of_another_kind_are_another_family() -> None:
    """Also where encoders are the same, so that sizes do not tell them apart."""
    roles = roles_of(
        {
            "ours": described(config(MASKED.model.encoder.model_dump(), {"kind": "widths"}, "slimmable"), w1=900.0),
            "ctc": described(MASKED, w1=800.0),
            "a": described(separate(CONFORMER), "w1", w1=900.0),
            "b": described(ALONE, "w1-l2", w1=300.0),
        }
    )
    assert {name: role.family for name, role in roles.items()} == {
        "ours": "",
        "ctc": "CTC Conformer",
        "a": "",
        "b": "CTC Conformer",
    }
