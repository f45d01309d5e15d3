"""Reading recipes: includes, overrides, and errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from slimasr.config.load import first_difference, load_config, parse_config, save_config
from slimasr.config.method import SeparateConfig
from slimasr.data.corpora import CORPORA
from slimasr.errors import UserError
from slimasr.supernet.subnet import Subnet

MINIMAL: dict[str, Any] = {"name": "test", "data": {"corpus": "an4"}}


def write(folder: Path, name: str = "x.yaml", **sections: Any) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump({**MINIMAL, **sections}))
    return path


def test_defaults_are_the_schema_s(tmp_path: Path) -> None:
    assert load_config(write(tmp_path)) == parse_config(MINIMAL)


def test_saved_and_read_again(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, model={"predictor": {"kind": "lstm", "dim": 64}}, data={"corpus": "digits", "musan": {}})
    )
    save_config(config, tmp_path / "exp" / "config.yaml")
    assert load_config(tmp_path / "exp" / "config.yaml") == config


def test_every_recipe_of_ours_is_valid() -> None:
    recipes = sorted((Path(__file__).parents[2] / "egs").glob("*/conf/*.yaml"))
    for path in recipes:
        assert load_config(path).data.corpus in CORPORA, path


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, model={"encoder": {"num_layers": 2}})
    given = ["encoder.num_layers=6", "optimizer.lr=1e-4", "data.train=[a, b]", "training.spec_augment=null", "seed=7"]
    config = load_config(path, given)
    assert config.model.encoder.num_layers == 6
    assert config.training.optimizer.lr == 1e-4
    assert config.data.train == ["a", "b"]
    assert config.training.spec_augment is None
    assert config.seed == 7
    assert load_config(path, ["data.options.voices=3"]).data.options == {"voices": 3}
    assert load_config(path, ["encoder.num_layers=3", "encoder.num_layers=5"]).model.encoder.num_layers == 5


AUXILIARY = {"layers": [2, 4], "hidden_dim": 5}
TAUGHT = {"method": {"kind": "todm"}, "space": {"kind": "layers", "depths": [16, 8]}}


def test_the_restricted_loss_has_no_lattice_to_teach_on(tmp_path: Path) -> None:
    path = write(tmp_path, **TAUGHT, loss={"distillation": {}})
    with pytest.raises(UserError, match="loss.distillation: needs transducer: full or pruned, not restricted"):
        load_config(path, ["loss.transducer=restricted", "loss.alignments=a"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            {"loss": {"auxiliary": {**AUXILIARY, "alignments": "a"}}},
            {"loss": {"auxiliary": AUXILIARY, "alignments": "a"}},
        ),
        (
            {"loss": {"auxiliary": {**AUXILIARY, "alignments": "a"}, "alignments": None}},
            {"loss": {"auxiliary": AUXILIARY, "alignments": "a"}},
        ),
        (
            {**TAUGHT, "loss": {"distillation": {"per": "node"}}},
            {**TAUGHT, "loss": {"distillation": {}, "per": "unit"}},
        ),
        (
            {**TAUGHT, "loss": {"distillation": {"per": "utterance", "kd_weight": 2.0}}},
            {**TAUGHT, "loss": {"distillation": {"kd_weight": 2.0}, "per": "utterance"}},
        ),
    ],
)
def test_keys_of_earlier_versions_keep_their_meaning(tmp_path: Path, old: Any, new: Any) -> None:
    assert load_config(write(tmp_path, **old)) == parse_config({**MINIMAL, **new})
    assert parse_config({**MINIMAL, **old}) == parse_config({**MINIMAL, **new})


def test_keys_of_earlier_versions_may_be_in_any_file_and_in_overrides(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", loss={"auxiliary": {**AUXILIARY, "alignments": "a"}})
    path = tmp_path / "new.yaml"
    path.write_text(yaml.safe_dump({"include": "base.yaml", "loss": {"alignments": "b", "auxiliary": {"layers": [1]}}}))
    loss = load_config(path).loss
    assert loss.alignments == Path("b")
    assert loss.auxiliary is not None and (loss.auxiliary.layers, loss.auxiliary.hidden_dim) == ([1], 5)
    for key in ("auxiliary.alignments", "loss.auxiliary.alignments"):
        assert load_config(path, [f"{key}=c"]).loss.alignments == Path("c")
    taught = write(tmp_path, "taught.yaml", **TAUGHT)
    assert load_config(taught, ["loss.distillation.per=utterance"]).loss.per == "utterance"


def test_an_old_key_beside_its_present_one_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, loss={"auxiliary": {"alignments": "a"}, "alignments": "b"})
    with pytest.raises(UserError, match=r"loss.auxiliary.alignments: unknown key"):
        load_config(path)


def test_a_subnet_may_be_written_as_yaml_or_json(tmp_path: Path) -> None:
    path = write(tmp_path, method={"kind": "separate"})
    for text in ('{"path": [0, 1], "units": {"0.ffn1": 8}}', "{path: [0, 1], units: {0.ffn1: 8}}"):
        method = load_config(path, [f"method.subnet={text}"]).method
        assert method.kind == "separate"
        assert Subnet.from_json(method.subnet) == Subnet(1.0, (0, 1), (("0.ffn1", 8),))
    assert load_config(path, ["method.subnet=0.5"]).method == SeparateConfig(subnet="0.5")


def test_a_section_of_another_kind_starts_anew(tmp_path: Path) -> None:
    path = write(tmp_path, model={"predictor": {"context_size": 1, "dim": 32}})
    assert load_config(path, ["predictor.dim=64"]).model.predictor.model_dump() == {
        "kind": "stateless",
        "dim": 64,
        "context_size": 1,
        "dropout": 0.0,
    }
    assert load_config(path, ["predictor.kind=lstm"]).model.predictor.dim == 512
    lstm = load_config(path, ["predictor.kind=lstm", "predictor.num_layers=3"]).model.predictor
    assert lstm.model_dump()["num_layers"] == 3


def test_a_list_of_includes_is_laid_one_over_the_other(tmp_path: Path) -> None:
    space = "space: {kind: layers, depths: [2, 1], units: {ffn1: [64, 32], conv: [16]}}\n"
    encoder = "model: {encoder: {num_layers: 2, ffn_dim: 64, d_model: 16}}\n"
    write(tmp_path, name="base.yaml")
    (tmp_path / "space.yaml").write_text(space + encoder)
    (tmp_path / "other.yaml").write_text("space: {units: {conv: null, ffn2: [64, 48]}}\nseed: 1\n")
    (tmp_path / "top.yaml").write_text("include: [base.yaml, space.yaml, other.yaml]\nseed: 2\n")
    config = load_config(tmp_path / "top.yaml")
    assert config.seed == 2 and config.space.kind == "layers"
    assert config.space.units == {"ffn1": [64, 32], "ffn2": [64, 48]}


def test_include_chain(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", training={"num_epochs": 5, "clip_norm": 2.0}, seed=1)
    (tmp_path / "middle.yaml").write_text("include: base.yaml\ntraining: {num_epochs: 7}\n")
    (tmp_path / "top.yaml").write_text("include: middle.yaml\nseed: 3\n")
    config = load_config(tmp_path / "top.yaml")
    assert (config.training.num_epochs, config.training.clip_norm, config.seed) == (7, 2.0, 3)
    (tmp_path / "base.yaml").write_text("include: top.yaml\n")
    with pytest.raises(UserError, match="include each other"):
        load_config(tmp_path / "top.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoder.num_layer=6", r"--set encoder.num_layer=6: unknown key num_layer \(did you mean num_layers\?\)"),
        ("encodr.num_layers=6", r"unknown key encodr \(did you mean encoder\?\)"),
        ("num_layers", "must look like key=value"),
        ("data=[", "not valid YAML"),
        ("predictor.kind=gru", r"model.predictor.kind: must be one of 'stateless', 'lstm', got 'gru'"),
        ("predictor={kind: lstm, num_layer: 2}", r"model.predictor.num_layer: unknown key \(did you mean num_layers"),
        ("encoder.kernel_size=4", "model.encoder.kernel_size: must be odd"),
        ("training.accumulate=0", "training.accumulate: must be at least 1, got 0"),
        ("data.batch_seconds=abc", "data.batch_seconds: must be a number, above 0, got 'abc'"),
        ("features.num_mel_bins=40", "model.num_mel_bins: must equal features.num_mel_bins"),
        ("space.widths=[0.5]", "space.widths: must be different and contain 1.0"),
        ("encoder.layers=[{ffn1: 1, heads: 1, conv: 1}]", "model.encoder.layers.0.ffn2: this key is needed"),
        ("data=3", "data: input should be a valid dictionary"),
        ("loss.distillation={}", "loss.distillation: method slimmable has no teacher; set it to null"),
        (
            "method={kind: todm, phases: [{epoch: 999}]}",
            r"method.phases: training.num_epochs is \d+, so the phase of epoch 999 would never begin",
        ),
        (
            "method={kind: todm, phases: [{epoch: 2, kd_weight: 0.5}]}",
            "method.phases: kd_weight without loss.distillation has no effect",
        ),
        (
            "method={kind: todm, phases: [{epoch: 2, optimizer: {lr: 1e-3}}]}",
            "method.phases.0.optimizer.kind: this key is needed",
        ),
        (
            "method={kind: todm, phases: [{epoch: 2, optimizer: {kind: adamw, lr: -1}}]}",
            "method.phases.0.optimizer.lr: must be above 0",
        ),
        (
            "method={kind: todm, phases: [{epoch: 2}, {epoch: 3, schedule: {kind: noam, warmup: 0}}]}",
            "method.phases.1.schedule.warmup: noam needs a fraction above 0",
        ),
        ("method={kind: multi_exit}", "model.exits: method multi_exit needs at least one"),
        ("loss={alignments: a, auxiliary: {layers: [17]}}", "loss.auxiliary.layers: the encoder has 16 layers"),
        ("loss={alignments: a, auxiliary: {layers: []}}", "loss.auxiliary.layers: needs at least one, or output: true"),
        ("loss.auxiliary={layers: [4, 4]}", "loss.auxiliary.layers: each must be after more layers"),
        ("loss.auxiliary={layers: [4], kl_weight: 0.1}", "loss.auxiliary.kl_weight: compares posteriors at the output"),
        ("loss.auxiliary={num_states: 9}", "loss.auxiliary.num_states: has no meaning with targets: tokens"),
        ("loss.auxiliary={kl_weight: -0.1}", "loss.auxiliary.kl_weight: must be at least 0"),
        (
            "loss={alignments: a, auxiliary: {output: true, kl_weight: 0.1}}",
            "loss.auxiliary.kl_weight: method slimmable has no teacher of frames; leave it out",
        ),
        ("loss.auxiliary={layers: [4]}", "loss.alignments: auxiliary needs the folder that slimasr-align wrote"),
        ("loss.transducer=restricted", "loss.alignments: transducer: restricted needs the folder"),
        ("loss.alignments=exp/a/alignments", "loss.alignments: no loss needs them"),
        (
            "loss={transducer: restricted, alignments: a, left_buffer: -1}",
            "loss.left_buffer: must be at least 0",
        ),
        ("loss={transducer: restricted, alignments: a, right_buffer: -2}", "loss.right_buffer: must be at least 0"),
        ("data.text.drop=['(']", r"data\.text\.drop: '\(' is not a regular expression"),
        ("loss={per: node}", "loss.per: input should be 'unit', 'token', 'utterance' or 'frame', got 'node'"),
        ("space={kind: layers, depths: [4]}", "space.depths: the largest must be model.encoder.num_layers, 16"),
    ],
)
def test_errors_name_the_key_in_one_line(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_config(write(tmp_path), [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.distillation={}", "loss.distillation: method multi_exit has no teacher; set it to null"),
        ("space.widths=[1.0, 0.5]", "space: method multi_exit trains depths alone; give kind: layers and depths"),
        ("space={kind: widths}", "space: method multi_exit trains depths alone; give kind: layers and depths"),
        ("space.units={ffn1: [1024, 512]}", "space: method multi_exit trains depths alone"),
        ("space.depths=[16, 4]", "space.depths: method multi_exit trains only model.exits and the full depth"),
    ],
)
def test_a_method_refuses_what_it_cannot_train(tmp_path: Path, override: str, message: str) -> None:
    sections = {"space": {"kind": "layers", "depths": [16, 8]}, "method": {"kind": "multi_exit"}}
    path = write(tmp_path, model={"exits": [8, 16]}, **sections)
    assert load_config(path).method.kind == "multi_exit"
    with pytest.raises(UserError, match=message):
        load_config(path, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no keys"),
        ("- a\n- b\n", "holds no keys"),
        ("name: [", "not valid YAML"),
        ("name: x\n", "data: this key is needed"),
        ("name: x\ndata: {corpus: an4}\ntrainig: {}\n", r"trainig: unknown key \(did you mean training\?\)"),
        ("name: x\ndata: {corpus: an4, trian: [a]}\n", r"data.trian: unknown key \(did you mean train\?\)"),
        ("include: nowhere.yaml\n", "nowhere.yaml: cannot be read"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_config(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no.yaml: cannot be read \(No such file or directory\)"):
        load_config(tmp_path / "no.yaml")


def test_first_difference(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert first_difference(load_config(path), load_config(path)) is None
    found = first_difference(load_config(path), load_config(path, ["seed=3", "encoder.num_layers=2"]))
    assert found == "seed: 42 against 3"
