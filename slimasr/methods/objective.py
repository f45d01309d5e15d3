"""The objective: model and losses as one module, from a batch and a subnet to one loss per utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slimasr.config.schema import LossConfig
from slimasr.data.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.losses import transducer
from slimasr.losses.ctc import ctc_loss
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class PassOutput:
    """What one forward pass gives: ``losses`` name -> (N,), and the encoder's output for students."""

    losses: dict[str, Tensor]
    encoder: EncoderOutput | None = None

    def total(self, weights: Mapping[str, float]) -> Tensor:
        """Weighted sum of the losses, (N,)."""
        return torch.stack([weight * self.losses[name] for name, weight in weights.items()]).sum(dim=0)

    def detach(self) -> PassOutput:
        """The same values outside the graph: what a teacher hands on."""
        encoder = None if self.encoder is None else self.encoder.detach()
        return PassOutput({name: value.detach() for name, value in self.losses.items()}, encoder)

    def without_tensors(self) -> PassOutput:
        """An empty place-holder, so that a finished pass frees its graph."""
        return PassOutput({})


class Objective(nn.Module):
    """Losses of one subnet on one batch. The unit to which ``torch.func.functional_call`` is applied.

    Loss names: ``transducer`` (full or pruned, as the recipe says) and ``ctc``.
    """

    def __init__(self, model: Transducer, config: LossConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(
        self,
        batch: Batch,
        subnet: Subnet | None,
        names: Sequence[str],
        progress: float = 1.0,
        taps: Sequence[int] = (),
        teacher: PassOutput | None = None,
        encoder: EncoderOutput | None = None,
        predictor_out: Tensor | None = None,
    ) -> PassOutput:
        """Losses by name, each (N,) float32 and summed over an utterance.

        Args:
          progress: share of the run done, for the pruned loss's warm-up; 1 = after it.
          taps: encoder layers whose hidden states are handed back.
          teacher: detached output of the pass that teaches this one.
          encoder: output already computed by a method that shares it between passes.
          predictor_out: (N, U + 1, P), likewise.
        """
        if encoder is None:
            encoder = self.model.encode(batch.x, batch.x_lens, subnet, taps)
        losses: dict[str, Tensor] = {}
        if "transducer" in names:
            predictor_out = self.model.predictor(batch.y) if predictor_out is None else predictor_out
            losses["transducer"] = self._transducer(encoder, predictor_out, batch, subnet, progress)
        if "ctc" in names:
            logits = self.model.ctc_logits(encoder.out, subnet)
            losses["ctc"] = ctc_loss(logits, encoder.lens, batch.y, batch.y_lens)
        return PassOutput(losses, encoder)

    def _transducer(
        self,
        encoder: EncoderOutput,
        predictor_out: Tensor,
        batch: Batch,
        subnet: Subnet | None,
        progress: float,
    ) -> Tensor:
        if self.config.transducer == "full":
            return self._full(encoder, predictor_out, batch, subnet)
        simple, pruned = self._pruned(encoder, predictor_out, batch, subnet)
        faded = 1.0 if self.config.warmup == 0 else min(1.0, progress / self.config.warmup)
        simple_scale = 1.0 - faded * (1.0 - self.config.simple_scale)
        return simple_scale * simple + (0.1 + 0.9 * faded) * pruned

    def _full(self, encoder: EncoderOutput, predictor_out: Tensor, batch: Batch, subnet: Subnet | None) -> Tensor:
        model, config = self.model, self.config
        am = model.joiner.project_encoder(encoder.out, model.width_of(subnet))
        lm = model.joiner.project_predictor(predictor_out)
        logits = model.joiner(am.unsqueeze(2), lm.unsqueeze(1))
        return transducer.rnnt_loss(
            logits,
            batch.y,
            model.blank_id,
            boundary(encoder.lens, batch.y_lens),
            rnnt_type=config.rnnt_type,
            delay_penalty=config.delay_penalty,
            reduction="none",
            backend=config.backend,
        )

    def _pruned(
        self, encoder: EncoderOutput, predictor_out: Tensor, batch: Batch, subnet: Subnet | None
    ) -> tuple[Tensor, Tensor]:
        model, config, width = self.model, self.config, self.model.width_of(subnet)
        limits = boundary(encoder.lens, batch.y_lens)
        simple, (px_grad, py_grad) = transducer.rnnt_loss_smoothed(
            model.simple_lm(predictor_out),
            model.simple_am(encoder.out, width),
            batch.y,
            model.blank_id,
            lm_only_scale=config.lm_scale,
            am_only_scale=config.am_scale,
            boundary=limits,
            rnnt_type=config.rnnt_type,
            delay_penalty=config.delay_penalty,
            reduction="none",
            return_grad=True,
            backend=config.backend,
        )
        ranges = transducer.get_rnnt_prune_ranges(px_grad, py_grad, limits, config.prune_range, backend=config.backend)
        am, lm = transducer.do_rnnt_pruning(
            model.joiner.project_encoder(encoder.out, width),
            model.joiner.project_predictor(predictor_out),
            ranges,
            backend=config.backend,
        )
        pruned = transducer.rnnt_loss_pruned(
            model.joiner(am, lm),
            batch.y,
            ranges,
            model.blank_id,
            limits,
            rnnt_type=config.rnnt_type,
            delay_penalty=config.delay_penalty,
            reduction="none",
            backend=config.backend,
        )
        return simple, pruned


def boundary(encoder_out_lens: Tensor, y_lens: Tensor) -> Tensor:
    """(N, 4) int64 rows ``[0, 0, U, T]``: where each utterance's lattice begins and ends."""
    zeros = torch.zeros_like(y_lens)
    return torch.stack([zeros, zeros, y_lens, encoder_out_lens], dim=1).to(torch.int64)


def loss_weights(config: LossConfig) -> dict[str, float]:
    """Loss names and weights of a recipe."""
    weights = {"transducer": 1.0}
    return weights if config.ctc_weight == 0 else weights | {"ctc": config.ctc_weight}
