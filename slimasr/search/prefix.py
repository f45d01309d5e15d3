"""Hidden states of the dev set, kept for the next subnet that runs the same first layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from slimasr.data.batch import Batch
from slimasr.encoders.base import EncoderOutput
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet


def layer_keys(subnet: Subnet, path: Sequence[int]) -> tuple[Any, ...]:
    """One key for the front end and one per layer: equal keys up to a layer mean equal hidden states there.

    Sorted by these, subnets of an equal prefix of layers are neighbours.
    """
    chosen: dict[int, list[tuple[str, tuple[int, ...]]]] = {layer: [] for layer in path}
    for name, units in subnet.units:
        layer, module = name.split(".", 1)
        chosen[int(layer)].append((module, (units,) if isinstance(units, int) else units))
    return (-subnet.width, *((layer, tuple(chosen[layer])) for layer in path))


@dataclass
class _States:
    """Of one batch: ``hidden[k]`` is the state after the front end and ``k`` layers, as ``keys[: k + 1]`` made it."""

    lens: Tensor
    keys: tuple[Any, ...] = ()
    hidden: list[Tensor] = field(default_factory=list)


class PrefixCache:
    """Encodes batches, each from the last hidden state that the previous subnet left and that fits.

    Batches are numbered; those whose states would not fit into the memory given are computed from the start each time.
    """

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._states: dict[int, _States | None] = {}

    def encode(
        self, number: int, batch: Batch, model: Transducer, subnet: Subnet | None, name: Subnet
    ) -> EncoderOutput:
        """Encoder output of a batch.

        Args:
          number: of the batch.
          model: the supernet, or a stand-alone model.
          subnet: what to run of it.
          name: the subnet of the space that this is, by which states are shared.
        """
        encoder = model.encoder
        keys = layer_keys(name, encoder.path_of(subnet) if name.path is None else name.path)
        states = self._states.get(number)
        shared = 0 if states is None else _shared(states.keys, keys)
        if states is None or shared == 0:
            embedded = encoder.embed(model.normalize(batch.x), batch.x_lens, subnet)
            states = self._room(number, embedded, encoder.num_layers)
            if states is None:
                return encoder.run_layers(embedded, encoder.path_of(subnet), subnet)
            states.hidden, shared = [embedded.out], 1
        rest = encoder.path_of(subnet)[shared - 1 :]
        output = encoder.run_layers(EncoderOutput(states.hidden[shared - 1], states.lens), rest, subnet, rest)
        states.hidden[shared:] = [output.taps[layer] for layer in rest]
        states.keys = keys
        return EncoderOutput(states.hidden[-1], states.lens)

    def _room(self, number: int, embedded: EncoderOutput, num_layers: int) -> _States | None:
        """Where the states of a batch may be kept, None = nowhere."""
        if number not in self._states:
            needed = (1 + num_layers) * embedded.out.numel() * embedded.out.element_size()
            fits = needed <= self._left
            self._left -= needed if fits else 0
            self._states[number] = _States(embedded.lens) if fits else None
        return self._states[number]


def _shared(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
