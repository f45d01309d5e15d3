"""Hidden states of the dev set, kept for the next subnet that runs the same first layers."""

from __future__ import annotations

from collections import OrderedDict
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
class _Room:
    """The hidden states of one batch.

    Attributes:
        size: bytes that the states may take.
        left: bytes that are still free.
        lens: frames of every utterance, the same in all states.
        hidden: keys of the front end and of the layers that made a state -> the state; the first ones are dropped
            first when memory is needed.
    """

    size: int
    left: int
    lens: Tensor
    hidden: OrderedDict[tuple[Any, ...], Tensor] = field(default_factory=OrderedDict)

    def deepest(self, keys: tuple[Any, ...]) -> tuple[int, Tensor | None]:
        """The state here that most of these keys, from the first one on, have made, and how many they are."""
        for depth in range(len(keys), 0, -1):
            if keys[:depth] in self.hidden:
                return depth, self.hidden[keys[:depth]]
        return 0, None

    def keep(self, keys: tuple[Any, ...], states: Sequence[Tensor]) -> None:
        """Keep the states that the last of these keys have made, one state per key.

        They replace deep states first, and those that were not used for long.
        """
        needed = sum(map(num_bytes, states))
        if needed > self.size:
            return
        self._used(keys)
        while self.left < needed:
            self.left += num_bytes(self.hidden.popitem(last=False)[1])
        self.left -= needed
        first = len(keys) - len(states)
        for depth, state in enumerate(states, start=first + 1):
            self.hidden[keys[:depth]] = state
        self._used(keys)

    def _used(self, keys: tuple[Any, ...]) -> None:
        """Drop these last, and of them the shallow ones, which more subnets share, after the deep ones."""
        for depth in range(len(keys), 0, -1):
            if keys[:depth] in self.hidden:
                self.hidden.move_to_end(keys[:depth])


class PrefixCache:
    """Encodes batches, each from the deepest hidden state that the subnet has in common with earlier ones.

    Batches are numbered and get equal parts of the memory. Where such a part cannot hold the states of one subnet,
    some batches get more, and the others are computed from the start each time.
    """

    def __init__(self, max_bytes: int, num_batches: int) -> None:
        self._left = max_bytes
        self._equal_part = max_bytes // max(1, num_batches)
        self._rooms: dict[int, _Room | None] = {}

    def encode(
        self, number: int, batch: Batch, model: Transducer, subnet: Subnet | None, name: Subnet
    ) -> EncoderOutput:
        """Encoder output of a batch.

        Args:
            number: number of the batch.
            batch: the batch.
            model: the supernet, or a stand-alone model.
            subnet: the subnet to run of it, None for all of a stand-alone model.
            name: the subnet of the space that this is: it says which states are shared.
        """
        encoder = model.encoder
        path = encoder.path_of(subnet)
        keys = layer_keys(name, path if name.path is None else name.path)
        room = self._rooms.get(number)
        known, start = (0, None) if room is None else room.deepest(keys)
        if room is None or start is None:
            embedded = encoder.embed(model.normalize(batch.x), batch.x_lens, subnet)
            room = self._room(number, embedded, encoder.num_layers)
            if room is None:
                return encoder.run_layers(embedded, path, subnet)
            known = 1
            start = embedded.out
            room.keep(keys[:1], [start])
        # The first key is that of the front end, so ``known`` keys stand for one layer less.
        rest = path[known - 1 :]
        output = encoder.run_layers(EncoderOutput(start, room.lens), rest, subnet, rest)
        room.keep(keys, [output.taps[layer] for layer in rest])
        return EncoderOutput(output.out, room.lens)

    def _room(self, number: int, embedded: EncoderOutput, num_layers: int) -> _Room | None:
        """Memory for the states of a batch; None where too little is left for those of one subnet."""
        if number not in self._rooms:
            needed = (1 + num_layers) * num_bytes(embedded.out)
            size = min(max(self._equal_part, needed), self._left)
            if size >= needed:
                self._rooms[number] = _Room(size, left=size, lens=embedded.lens)
                self._left -= size
            else:
                self._rooms[number] = None
        return self._rooms[number]


def num_bytes(tensor: Tensor) -> int:
    """Memory of a tensor's own entries."""
    return tensor.numel() * tensor.element_size()
