"""A small encoder inside a larger one: as a width is a prefix of all channels, its weights are the first ones.

Where the sizes of a stand-alone encoder are those of a subnet of an elastic one, its weights have an exact place there.
The place of every entry follows from `Encoder.extract` itself: it copies entries, and so also the numbers by which all
entries of the larger encoder can be replaced (`places`). There is no second description of how layers are sliced.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from slimasr.config.load import first_different_key
from slimasr.config.model import ModelConfig
from slimasr.config.sizes import has_lists, resolved_encoder
from slimasr.encoders.base import Encoder
from slimasr.encoders.build import shrink_encoder
from slimasr.encoders.frontend import shrink_frontend
from slimasr.supernet.subnet import Subnet

NOT_OF_STANDALONE = ("tree", "norm", "slimming", "dt_min", "dt_max", "decay", "spread_heads")
"""Keys of encoders that say how subnets are cut out or how training begins, not what a stand-alone model computes."""

DIGIT = 1 << 24
"""Entries are numbered in digits below this, which float32 holds exactly."""


@dataclass(frozen=True)
class Place:
    """Where the entries of one tensor of a small encoder are in a large one.

    Attributes:
        name: the tensor of the large encoder.
        entries: int64 indices into that tensor, flattened, in the shape of the small tensor.
        whole: whether these are all of its entries.
    """

    name: str
    entries: Tensor
    whole: bool


def subnet_of_size(large: ModelConfig, small: ModelConfig) -> Subnet | str:
    """Return the subnet of a model whose encoder has the sizes of another model's, or why there is none.

    It keeps the first channels, the first layers and the first units of each module.

    Args:
        large: sizes of the model that has subnets.
        small: sizes of the other model.
    """
    ours, theirs = large.encoder, small.encoder
    if ours.kind != theirs.kind:
        return f"model.encoder.kind: {theirs.kind!r} against {ours.kind!r}"
    for key in ("d_model", "num_layers"):
        if getattr(theirs, key) > getattr(ours, key):
            return f"model.encoder.{key}: {getattr(theirs, key)} against {getattr(ours, key)}"
    layers = theirs.num_layers
    plain = Subnet(theirs.d_model / ours.d_model, None if layers == ours.num_layers else tuple(range(layers)))
    # The deepest branch of a tree comes first; other branches have no place in a prefix.
    wanted = theirs.layer_units[:layers]
    try:
        shrunk = shrink_encoder(ours, plain).layer_units
        chosen = []
        for index, sizes in enumerate(wanted):
            for module, size in sizes.items():
                most = shrunk[index].get(module, 0)
                if size > most:
                    return f"model.encoder.layers.{index}.{module}: {size} against {most}"
                if size < most:
                    chosen.append((f"{index}.{module}", size))
        subnet = Subnet(plain.width, plain.path, tuple(chosen))
        changes = {
            "encoder": shrink_encoder(ours, subnet),
            "frontend": shrink_frontend(large.frontend, subnet.width),
        }
    except ValueError as error:
        return str(error)
    return _first_difference(small, large.model_copy(update=changes)) or subnet


def _first_difference(first: ModelConfig, second: ModelConfig) -> str | None:
    """Return the first difference between the inputs and the deepest branches of two encoders that run alone."""
    listed = has_lists(first.encoder) or has_lists(second.encoder)
    trees = []
    for config in (first, second):
        encoder = resolved_encoder(config.encoder, listed=listed, without=NOT_OF_STANDALONE)
        if listed:
            encoder["layers"] = {key: encoder["layers"][key] for key in map(str, range(encoder["num_layers"]))}
        frontend = config.frontend.model_dump(mode="json")
        trees.append({"num_mel_bins": config.num_mel_bins, "frontend": frontend, "encoder": encoder})
    return first_different_key(trees[0], trees[1], "model")


def places(encoder: Encoder, subnet: Subnet) -> dict[str, Place]:
    """Return where the tensors of the stand-alone encoder of a subnet come from, by their names there.

    Raises:
        ValueError: the encoder cannot run the subnet, such as for want of norms of this width.
    """
    numbered = copy.deepcopy(encoder)
    tensors = numbered.state_dict()
    starts: list[int] = []
    total = 0
    for tensor in tensors.values():
        starts.append(total)
        total += tensor.numel()
    found_numbers: dict[str, Tensor] = {}
    divisor = 1
    while divisor == 1 or divisor < total:
        for start, tensor in zip(starts, tensors.values(), strict=True):
            numbers = torch.arange(start, start + tensor.numel()).view(tensor.shape)
            tensor.copy_(numbers // divisor % DIGIT)
        for name, digits in numbered.extract(subnet).state_dict().items():
            found_numbers[name] = found_numbers.get(name, 0) + digits.long() * divisor
        divisor *= DIGIT
    names = list(tensors)
    found = {}
    for name, numbers in found_numbers.items():
        owner = bisect_right(starts, int(numbers.min())) - 1
        entries = numbers - starts[owner]
        size = tensors[names[owner]].numel()
        assert int(entries.max()) < size, f"{name} comes from more than one tensor"
        found[name] = Place(names[owner], entries, entries.numel() == size)
    return found


def put(target: Mapping[str, Tensor], where: Place, values: Tensor) -> None:
    """Write the values of a small tensor to their place among the contiguous tensors of a large encoder."""
    target[where.name].view(-1)[where.entries.flatten()] = values.flatten().to(target[where.name].dtype)
