"""Steps and epochs of the trainer: exact normalisation, accumulation, guards, what a run leaves behind."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slimasr.config.schema import Config
from slimasr.data.batches.batch import Batch
from slimasr.elastic.norm import norm_parameters
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import load_checkpoint
from slimasr.methods import resolve_config
from slimasr.methods.base import Pass, StepContext
from slimasr.methods.slimmable import Slimmable
from slimasr.objective.objective import Objective
from slimasr.supernet.space import WidthSpace
from slimasr.training.validation import dev_metric
from tests.results.kit import results_json
from tests.training.kit import TinyBatches, make_objective, make_trainer, tiny_config, tiny_tokenizer

SPACE = WidthSpace((1.0, 0.5))
LOSSES = {"transducer": 1.0, "ctc": 0.5}


def gradients(objective: Objective) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}


def exact(**training: Any) -> Config:
    """No randomness in a step."""
    return tiny_config(dropout=0.0, training={"spec_augment": None, **training})


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], atol: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.allclose(a[name], b[name], atol=atol), name


def test_gradient_of_a_step_is_that_of_the_plain_sum(tmp_path: Path) -> None:
    """Both widths' losses, summed over utterances, over the number of tokens: one ordinary backward."""
    trainer = make_trainer(exact(), tmp_path)
    batch = TinyBatches(tiny_tokenizer()).make(["a", "b", "c"])
    trainer.objective.train()
    report = trainer.stepper.gradients([batch], trainer.context())
    stepped = gradients(trainer.objective)
    trainer.objective.zero_grad()
    total = torch.zeros(())
    for subnet in SPACE:
        losses = trainer.objective(batch, subnet, tuple(LOSSES), 0.0).losses
        total = total + sum(weight * losses[name].sum() for name, weight in LOSSES.items())
    (total / batch.y_lens.sum()).backward()
    assert_close(stepped, gradients(trainer.objective), atol=1e-6)
    assert sum(report.losses[f"{s.id}/{name}"] * w for s in SPACE for name, w in LOSSES.items()) == pytest.approx(
        total.item(), rel=1e-5
    )


def test_accumulated_batches_share_one_normalizer(tmp_path: Path) -> None:
    """Batches of unequal token counts, one by one, add up to the gradient of their sum over all tokens."""
    trainer = make_trainer(exact(accumulate=2), tmp_path)
    batches = [TinyBatches(tiny_tokenizer()).make(ids) for ids in (["a", "b", "c"], ["d"])]
    trainer.objective.train()
    trainer.stepper.gradients(batches, trainer.context())
    together = gradients(trainer.objective)
    tokens = [batch.num_tokens for batch in batches]
    assert tokens[0] != tokens[1]
    expected: dict[str, Tensor] = {}
    for batch, count in zip(batches, tokens, strict=True):
        trainer.stepper.gradients([batch], trainer.context())
        for name, gradient in gradients(trainer.objective).items():
            expected[name] = expected.get(name, torch.zeros(())) + gradient * count / sum(tokens)
    assert_close(together, expected)


@pytest.mark.parametrize("per", ["unit", "token", "frame", "utterance"])
def test_accumulation_equals_the_bigger_batch(tmp_path: Path, per: str) -> None:
    """With batch norms out of training mode, utterances do not see each other: 2 + 1 utterances equal 3."""
    loss = tiny_config().loss.model_dump() | {"per": per}
    trainer = make_trainer(tiny_config(dropout=0.0, training={"spec_augment": None}, loss=loss), tmp_path)
    source = TinyBatches(tiny_tokenizer())
    trainer.objective.eval()
    trainer.stepper.gradients([source.make(["a", "b", "c"])], trainer.context())
    whole = gradients(trainer.objective)
    trainer.stepper.gradients([source.make(["a", "b"]), source.make(["c"])], trainer.context())
    assert_close(whole, gradients(trainer.objective))


class OneWidth(Slimmable):
    """One random width a step."""

    drawn: list[float]

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        subnet = self.space.sample(context.rng)
        self.drawn = [*getattr(self, "drawn", []), subnet.width]
        return [Pass(subnet, self.losses)]


def test_unsampled_norms_keep_every_bit_and_other_slices_decay(tmp_path: Path) -> None:
    config = exact(optimizer={"lr": 1e-2, "weight_decay": 0.5}, num_epochs=3)
    method = OneWidth(SPACE, LOSSES)
    trainer = make_trainer(config, tmp_path, method)
    norms = norm_parameters(trainer.objective)
    source = TinyBatches(tiny_tokenizer())
    trainer.objective.train()
    for step in range(8):
        before = {n: t.clone() for n, t in trainer.objective.state_dict().items()}
        context = StepContext(step, 1, 18, random.Random(step))
        trainer.stepper.step([source.make(["a", "b"])], context)
        other = {1.0: ".8.", 0.5: ".16."}[method.drawn[-1]]
        after = trainer.objective.state_dict()
        for name in after:
            if (name in norms or ".stats." in name) and other in name:
                assert torch.equal(before[name], after[name]), (step, name)
        outside = "model.encoder.layers.0.parts.ffn1.inner.weight"
        assert not torch.equal(before[outside][16:], after[outside][16:]), "decay and momentum act on the tail"
    assert set(method.drawn) == {0.5, 1.0}


def test_a_run_leaves_its_record(tmp_path: Path) -> None:
    config = tiny_config(training={"num_epochs": 3, "keep_last": 2, "accumulate": 4, "validate_every": 2})
    make_trainer(config, tmp_path).run()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.pt", "epoch-002.pt", "epoch-003.pt"]
    results = results_json(tmp_path)
    assert (results["epochs"], results["steps"]) == (3, 6), "two steps an epoch: of four batches and of two"
    assert results["train_minutes"] > 0
    lines = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 2), (2, 4), (3, 6)]
    measured = {f"{s.id}/{name}" for s in SPACE for name in ("transducer", "ctc")}
    assert set(lines[0]["train"]) == measured
    assert lines[0]["dev"] == {}
    for line in lines[1:]:
        assert set(line["dev"]) == measured | {f"{s.id}/wer" for s in SPACE}
    best = load_checkpoint(tmp_path / "checkpoints" / "best.pt")
    assert best["epoch"] == min(lines[1:], key=lambda line: dev_metric(line["dev"]))["epoch"]
    assert list((tmp_path / "tensorboard").iterdir())


def test_dev_losses_are_per_token_sums(tmp_path: Path) -> None:
    trainer = make_trainer(exact(), tmp_path)
    dev = trainer.validate(1)
    assert trainer.objective.training
    trainer.objective.eval()
    tokens, losses = 0, 0.0
    for batch in TinyBatches(tiny_tokenizer()).dev():
        for row in range(len(batch)):
            alone = batch.select([row])
            output = trainer.objective(alone, SPACE.min, ("transducer",))
            tokens, losses = tokens + alone.num_tokens, losses + float(output.losses["transducer"].detach())
    assert dev["w0.5/transducer"] == pytest.approx(losses / tokens, rel=1e-4)


def test_dev_metric_by_hand() -> None:
    assert dev_metric({"a/wer": 10.0, "b/wer": 30.0, "a/ctc": 1.0, "b/ctc": 2.0}) == [20.0, 1.5]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_has_the_float32_gradient_but_for_rounding(tmp_path: Path, precision: str) -> None:
    batch = TinyBatches(tiny_tokenizer()).make(["a", "b", "c"])
    found = {}
    for kind in ("float32", precision):
        trainer = make_trainer(exact(precision=kind, clip_norm=1e9), tmp_path / kind)
        trainer.objective.train()
        results = [trainer.stepper.step([batch], trainer.context())]
        while results[-1].overflow:
            results.append(trainer.stepper.step([batch], trainer.context()))
        assert not results[-1].skipped
        found[kind] = torch.cat([g.flatten() for g in gradients(trainer.objective).values()])
    assert found[precision].dtype == torch.float32
    assert not torch.equal(found["float32"], found[precision])
    assert torch.cosine_similarity(found["float32"], found[precision], dim=0) > 0.99
    assert found[precision].norm().item() == pytest.approx(found["float32"].norm().item(), rel=0.05)


def test_fp16_overflow_lowers_the_scale_and_is_no_failure(tmp_path: Path) -> None:
    trainer = make_trainer(exact(precision="fp16"), tmp_path)
    batch = TinyBatches(tiny_tokenizer()).make(["a", "b"])
    trainer.stepper.gradients([batch], trainer.context())
    trainer.stepper.scaler.update(new_scale=2.0**40)
    result = trainer.stepper.step([batch], trainer.context())
    assert result.skipped
    assert result.overflow
    assert trainer.stepper.scaler.get_scale() == 2.0**39
    trainer.note(result, [batch])
    assert trainer.state.nonfinite == 0


def test_a_nonfinite_step_is_skipped_without_a_trace(tmp_path: Path) -> None:
    trainer = make_trainer(exact(), tmp_path)
    trainer.objective.train()
    source = TinyBatches(tiny_tokenizer(), poisoned=("bad",))
    trainer.stepper.step([source.make(["a", "b"])], trainer.context())
    before = {name: value.clone() for name, value in trainer.objective.state_dict().items()}
    moments = [state["exp_avg"].clone() for state in trainer.stepper.optimizer.state.values()]
    result = trainer.stepper.step([source.make(["a", "bad"])], trainer.context())
    assert result.skipped
    assert "bad" in result.report.nonfinite
    for name, value in trainer.objective.state_dict().items():
        assert torch.equal(value, before[name]), name
    for state, moment in zip(trainer.stepper.optimizer.state.values(), moments, strict=True):
        assert torch.equal(state["exp_avg"], moment)


def test_nonfinite_steps_in_a_row_stop_the_run(tmp_path: Path) -> None:
    """Every batch of the second half of the data is poisoned: the run ends there and names utterances."""
    tokenizer = tiny_tokenizer()
    config = tiny_config(training={"max_nonfinite": 3, "checkpoint_minutes": 1e-9})
    clean = make_trainer(config, tmp_path, batches=TinyBatches(tokenizer, num_batches=4))
    clean.run_epoch()
    good = {name: value.clone() for name, value in clean.objective.state_dict().items()}

    poisoned = TinyBatches(tokenizer, num_batches=4, poisoned=tuple(f"utt-{i}" for i in range(0, 8, 2)))
    trainer = make_trainer(config, tmp_path, batches=poisoned)
    trainer.resume()
    with pytest.raises(UserError, match=r"3 times in a row \(training.max_nonfinite\), last in utt-"):
        trainer.run_epoch()
    again = make_trainer(config, tmp_path, batches=TinyBatches(tokenizer, num_batches=4))
    again.resume()
    for name, value in again.objective.state_dict().items():
        assert torch.equal(value, good[name]), name


def test_the_scan_changes_nothing(tmp_path: Path) -> None:
    """Weights, statistics, gradients and all generators are as before."""
    trainer = make_trainer(tiny_config(), tmp_path)
    before = {name: value.clone() for name, value in trainer.objective.state_dict().items()}
    torch.manual_seed(11)
    random.seed(11)
    states = torch.get_rng_state(), random.getstate()
    seen: list[int] = []
    trainer.objective.register_forward_hook(lambda *_: seen.append(1))
    trainer.scan_worst_batches()
    assert len(seen) == 2, "both widths ran"
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(p.grad is None for p in trainer.objective.parameters())
    for name, value in trainer.objective.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_out_of_memory_names_the_options(tmp_path: Path) -> None:
    """The allocator itself refuses: 4 PB."""

    class Greedy(Slimmable):
        def normalizer(self, objective: Objective, batch: Batch) -> float:
            torch.empty(10**15)
            return 1.0

    trainer = make_trainer(tiny_config(), tmp_path, Greedy(SPACE, LOSSES))
    with pytest.raises(UserError, match=r"largest batch \(2 utterances.*data.batch_seconds or set data.max_cuts"):
        trainer.scan_worst_batches()
    with pytest.raises(UserError, match="step 0: out of memory"):
        trainer.run_epoch()


def test_no_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no usable utterance"):
        make_trainer(tiny_config(), tmp_path, batches=TinyBatches(tiny_tokenizer(), num_batches=0))


def test_a_separate_model_has_its_subnet_s_size() -> None:
    tokenizer = tiny_tokenizer()
    config = tiny_config(method={"kind": "separate", "subnet": "w0.5"})
    resolved, separate_of = resolve_config(config)
    assert separate_of == "w0.5"
    assert resolved.space.widths == [1.0]
    assert resolve_config(resolved)[0] == resolved
    small = make_objective(resolved, tokenizer).model
    cut = make_objective(tiny_config(), tokenizer).model.extract(SPACE.min)
    shapes = {name: value.shape for name, value in small.state_dict().items() if not name.startswith("ctc")}
    assert shapes == {name: value.shape for name, value in cut.state_dict().items()}
    with pytest.raises(UserError, match="0.3"):
        resolve_config(tiny_config(method={"kind": "separate", "subnet": "0.3"}))


def test_it_learns(tmp_path: Path) -> None:
    """Four utterances by heart: the model, the losses and the steps fit together."""
    batches = TinyBatches(tiny_tokenizer(), num_batches=2)
    trainer = make_trainer(exact(num_epochs=30, optimizer={"lr": 2e-2}), tmp_path, batches=batches)
    trainer.objective.train()
    reports = []
    for step in range(60):
        context = StepContext(step, 1 + step // 2, 60, random.Random(step))
        reports.append(trainer.stepper.step([batches.make([f"utt-{step % 2}", f"utt-{2 + step % 2}"])], context).report)
    for subnet in SPACE:
        name = f"{subnet.id}/transducer"
        assert reports[-1].losses[name] < 0.3 * reports[1].losses[name]
