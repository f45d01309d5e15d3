"""Hidden states of the dev set, kept for later subnets that run the same first layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from slimasr.data.batches.batch import Batch
from slimasr.encoders.base import MAX, Encoder, EncoderOutput, Known
from slimasr.models.base import SpeechModel
from slimasr.supernet.subnet import Ranges, Subnet, refuse_pathway


def layer_keys(subnet: Subnet, path: Sequence[int]) -> tuple[Any, ...]:
    """Return one key for the front end and one per layer: equal keys up to a layer mean equal hidden states there.

    When subnets are sorted by their keys, those with an equal prefix of layers are neighbours.

    Args:
        subnet: the subnet.
        path: ids of the layers that it runs, in order.
    """
    chosen: dict[int, list[tuple[str, Ranges]]] = {layer: [] for layer in path}
    for name, units in subnet.units:
        # "3.ffn" is a module of layer 3.
        layer, module = name.split(".", 1)
        # All of one form, so that the keys of different choices can be sorted.
        chosen[int(layer)].append((module, ((0, units),) if isinstance(units, int) else units))
    # Unequal widths and pathways share nothing, not even the front end; the minus sign puts large widths first.
    return ((-subnet.width, subnet.pathway), *((layer, tuple(chosen[layer])) for layer in path))


def half_keys(subnet: Subnet, path: Sequence[int], first_half: Sequence[str]) -> tuple[Any, ...]:
    """Return the keys of `layer_keys` with each layer's key divided into one for either half (`Encoder.half_runner`).

    Args:
        subnet: the subnet.
        path: ids of the layers that it runs, in order.
        first_half: the modules in the first half of a layer.
    """
    frontend, *layers = layer_keys(subnet, path)
    keys: list[Any] = [frontend]
    for layer, modules in layers:
        first = tuple(item for item in modules if item[0] in first_half)
        second = tuple(item for item in modules if item[0] not in first_half)
        keys += [(layer, first), (layer, second)]
    return tuple(keys)


@dataclass
class _Room:
    """The hidden states of one batch.

    Attributes:
        size: bytes that the states may take.
        left: bytes that are still free.
        hidden: a prefix of the keys of a subnet -> the state after the last of these halves of layers. When memory is
            needed, states are dropped in this order.
    """

    size: int
    left: int
    hidden: OrderedDict[tuple[Any, ...], EncoderOutput] = field(default_factory=OrderedDict)

    def deepest(self, keys: tuple[Any, ...]) -> tuple[int, EncoderOutput | None]:
        """Return the length of the longest prefix of the keys whose state is kept, and the state; else 0 and None."""
        for depth in range(len(keys), 0, -1):
            if keys[:depth] in self.hidden:
                return depth, self.hidden[keys[:depth]]
        return 0, None

    def keep(self, keys: tuple[Any, ...], states: Sequence[EncoderOutput]) -> None:
        """Keep the states of the last keys, one state per key.

        They replace the states that were not used for the longest time, and among those of one subnet deep ones first.
        """
        needed = sum(state.num_bytes for state in states)
        if needed > self.size:
            return
        # First, so that the prefix of the new states is not dropped before states of other subnets.
        self._mark_used(keys)
        while self.left < needed:
            self.left += self.hidden.popitem(last=False)[1].num_bytes
        self.left -= needed
        first = len(keys) - len(states)
        for depth, state in enumerate(states, start=first + 1):
            self.hidden[keys[:depth]] = state
        self._mark_used(keys)

    def _mark_used(self, keys: tuple[Any, ...]) -> None:
        """Move these states to the end, the shallow ones last: more subnets share them, so they are kept longest."""
        for depth in range(len(keys), 0, -1):
            if keys[:depth] in self.hidden:
                self.hidden.move_to_end(keys[:depth])


class PrefixCache:
    """Encodes batches, each from the deepest hidden state that the subnet has in common with earlier ones.

    Batches are numbered and get equal parts of the memory. If such a part cannot hold the states of one subnet, some
    batches get more, and the others are encoded from the beginning each time.
    """

    def __init__(self, max_bytes: int, num_batches: int) -> None:
        """``max_bytes`` is the memory of all states together."""
        self._left = max_bytes
        self._equal_part = max_bytes // max(1, num_batches)
        self._rooms: dict[int, _Room | None] = {}
        # The encoder that ran last, and what it computes from its weights alone.
        self._encoder: Encoder | None = None
        self._known = Known()

    def encode(
        self, number: int, batch: Batch, model: SpeechModel, subnet: Subnet | None, name: Subnet
    ) -> EncoderOutput:
        """Return the encoder output of a batch.

        Args:
            number: number of the batch, unique in the set.
            batch: the batch, in one piece.
            model: the supernet, or a stand-alone model.
            subnet: the subnet of ``model`` to run, None for all of a stand-alone model.
            name: the subnet of the space that this is, which decides what states are shared.

        Raises:
            ValueError: ``subnet`` is a pathway; it is cut out, and then only ``name`` says which one it is.
        """
        refuse_pathway(subnet)
        encoder = model.encoder
        path = encoder.path_of(subnet)
        # A stand-alone model numbers its layers from 0; only the subnet's own path names those of the supernet.
        keys = half_keys(name, path if name.path is None else name.path, encoder.first_half)
        room = self._rooms.get(number)
        known = 0
        start: EncoderOutput | None = None
        if room is not None:
            known, start = room.deepest(keys)
        if room is None or start is None:
            start = encoder.embed(model.normalize(batch.x), batch.x_lens, subnet)
            room = self._room(number, start, 1 + 2 * encoder.num_layers)
            if room is None:
                # No memory is left for this batch: nothing is kept.
                return encoder.run_layers(start, path, subnet)
            known = 1
            room.keep(keys[:1], [start])
        if encoder is not self._encoder:
            # A stand-alone model, which has weights of its own
            self._encoder = encoder
            self._known = Known()
        run = encoder.half_runner(start, subnet or MAX, self._known)
        halves = [(layer, half) for layer in path for half in (0, 1)]
        state = start
        states = []
        # The first key is that of the front end, so ``known`` keys stand for ``known - 1`` halves.
        for layer, half in halves[known - 1 :]:
            state = run(layer, half, state)
            # Later subnets may begin with any of them.
            states.append(state)
        room.keep(keys, states)
        return state

    def _room(self, number: int, embedded: EncoderOutput, num_states: int) -> _Room | None:
        """Return the memory of a batch; None if too little is left for the states of one subnet."""
        if number not in self._rooms:
            # All states have the shapes of the first layer's input.
            needed = num_states * embedded.num_bytes
            size = min(max(self._equal_part, needed), self._left)
            if size >= needed:
                self._rooms[number] = _Room(size, left=size)
                self._left -= size
            else:
                self._rooms[number] = None
        return self._rooms[number]
