"""The weights of one model that fit into another one: tensors of equal name and shape, and first channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from slimasr.config.loss import LossConfig
from slimasr.config.model import ModelConfig
from slimasr.encoders.build import build_encoder
from slimasr.models.base import TRAINING_HEADS, SpeechModel
from slimasr.models.build import build_model, shrink_model_config
from slimasr.models.prefix import Place, places, put, subnet_of_size
from slimasr.supernet.subnet import Subnet

ENCODER = "encoder."
ABSENT = "it is not among the weights that were read"


@dataclass(frozen=True)
class Source:
    """A trained model.

    Attributes:
        weights: name -> tensor, without masks.
        config: its sizes; None = unknown.
        widths: fractions of its channels that have norms of their own.
    """

    weights: Mapping[str, Tensor]
    config: ModelConfig | None = None
    widths: Sequence[float] = (1.0,)


@dataclass(frozen=True)
class Outputs:
    """What a model is built with besides its sizes: the losses, for training-only heads, and names of further heads."""

    loss: LossConfig | None
    heads: Sequence[str] = ()


@dataclass(frozen=True)
class Taken:
    """What a model has taken from another one, all by names of tensors.

    Attributes:
        whole: tensors that have been taken as a whole.
        first: tensors of which the first channels have been taken.
        left: tensors of which nothing has been taken -> why.
        unused: tensors of the other model of which this one has none of the name, and no place for them.
        place: the subnet that now has the encoder of the other model; None = there is none, and its tensors have been
            taken by name and shape alone.
        obstacle: why there is no such subnet.
    """

    whole: list[str] = field(default_factory=list)
    first: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    place: Subnet | None = None
    obstacle: str = ""


@dataclass(frozen=True)
class _Copied:
    """One tensor that has been copied: its name in the source and in the model, and whether it fills the latter."""

    theirs: str
    ours: str
    whole: bool


def take_matching(model: SpeechModel, outputs: Outputs, source: Source, excluded: Mapping[str, str]) -> Taken:
    """Copy all weights of a model that fit into another one, which keeps its own masks.

    Args:
        model: the model that gets them.
        outputs: what it was built with.
        source: the model from which they come.
        excluded: names of tensors of ``model`` that stay as they are -> why.
    """
    with torch.no_grad():
        copied = _take_equal(model, source, excluded)
        place, of_encoder = _take_encoder(model, source)
        copied += of_encoder
        if isinstance(place, Subnet):
            copied += _take_readers(model, outputs, source, excluded)
    whole = {item.ours for item in copied if item.whole}
    touched = {item.ours for item in copied}
    used = {item.theirs for item in copied}
    ours = _weights_of(model)
    left = {name: excluded.get(name) or _reason(source.weights.get(name), ours[name]) for name in ours}
    return Taken(
        whole=[name for name in ours if name in whole],
        first=[name for name in ours if name in touched - whole],
        left={name: why for name, why in left.items() if name not in touched},
        unused=[name for name in source.weights if name not in used and name not in ours],
        place=place if isinstance(place, Subnet) else None,
        obstacle="" if isinstance(place, Subnet) else place,
    )


def vocabulary_tensors(config: ModelConfig, outputs: Outputs) -> set[str]:
    """Return the names of the tensors whose sizes depend on the number of tokens."""
    few, more = (shapes_of(config, outputs, size) for size in (8, 9))
    return {name for name, shape in few.items() if shape != more[name]}


def shapes_of(config: ModelConfig, outputs: Outputs, vocab_size: int) -> dict[str, torch.Size]:
    """Return the shapes of the tensors of a model outside its encoder, by their names."""
    # On a device without memory.
    with torch.device("meta"):
        tensors = build_model(config, outputs.loss, vocab_size, (1.0,), outputs.heads).state_dict()
    return {name: tensor.shape for name, tensor in tensors.items() if not name.startswith(ENCODER)}


def extracted(model: SpeechModel, outputs: Outputs, subnet: Subnet) -> Source:
    """Return a subnet as a stand-alone model, with the training-only heads that `SpeechModel.extract` leaves out.

    These read the first channels, as the encoder's output has no others.
    """
    alone = model.extract(subnet)
    weights = _weights_of(alone)
    small = model.config.model_copy(update={"encoder": alone.config.encoder, "frontend": alone.config.frontend})
    shapes = shapes_of(small, outputs, model.vocab_size)
    for name, tensor in _weights_of(model).items():
        if name.split(".", 1)[0] in TRAINING_HEADS:
            weights[name] = first_entries(tensor, shapes[name]).clone()
    return Source(weights, alone.config)


def first_entries(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Return the first entries of every dimension of a tensor, a view of this shape."""
    return tensor[tuple(slice(size) for size in shape)]


def _weights_of(model: SpeechModel) -> dict[str, Tensor]:
    """Return the tensors of a model that are no masks."""
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.dtype != torch.bool}


def _take_equal(model: SpeechModel, source: Source, excluded: Collection[str]) -> list[_Copied]:
    """Copy tensors of equal name and shape."""
    copied = []
    for name, tensor in _weights_of(model).items():
        values = source.weights.get(name)
        if values is None or name in excluded or values.shape != tensor.shape or not _same_kind(values, tensor):
            continue
        tensor.copy_(values)
        copied.append(_Copied(name, name, whole=True))
    return copied


def _take_encoder(model: SpeechModel, source: Source) -> tuple[Subnet | str, list[_Copied]]:
    """Copy the encoder of the source to its place among the first channels, if there is one.

    Each width of the source has a place of its own, because of the norms of that width.

    Returns:
        The subnet of the model that is the encoder at its full width, or why there is none, and what has been copied.
    """
    config = source.config
    names = [name for name in source.weights if name.startswith(ENCODER)]
    if config is None:
        return "its sizes are not known", []
    encoder = build_encoder(config.encoder, config.frontend, config.num_mel_bins, source.widths)
    own = encoder.state_dict()
    if {ENCODER + name for name in own} != set(names):
        return "its tensors are not those of its configuration", []
    encoder.load_state_dict({name: source.weights[ENCODER + name] for name in own})
    place: Subnet | str = ""
    copied: list[_Copied] = []
    target = model.encoder.state_dict()
    # The full width comes last: its place is that of the encoder.
    for width in sorted({*source.widths, 1.0}):
        small = Subnet(width)
        place = subnet_of_size(model.config, shrink_model_config(config, small))
        if not isinstance(place, Subnet):
            continue
        try:
            where = places(model.encoder, place)
        except ValueError as error:
            place = str(error)
            continue
        # An encoder without other widths and branches is the stand-alone one.
        is_alone = tuple(source.widths) == (1.0,) and config.encoder.tree is None
        alone = own if is_alone else encoder.extract(small).state_dict()
        origins = {name: name for name in own} if is_alone else _names(places(encoder, small))
        for name, values in alone.items():
            put(target, where[name], values)
            copied.append(_Copied(ENCODER + origins[name], ENCODER + where[name].name, where[name].whole))
    return place, copied


def _names(found: Mapping[str, Place]) -> dict[str, str]:
    """Return the tensors from which those of a stand-alone encoder come."""
    return {name: place.name for name, place in found.items()}


def _take_readers(model: SpeechModel, outputs: Outputs, source: Source, excluded: Collection[str]) -> list[_Copied]:
    """Copy what reads the output of a smaller encoder: these layers have further inputs in the model, at the end."""
    assert source.config is not None, "the sizes of the source are known"
    # The shapes in this model if it had the encoder of the source. Only what reads the encoder has others now.
    small = model.config.model_copy(update={"encoder": source.config.encoder, "frontend": source.config.frontend})
    shapes = shapes_of(small, outputs, model.vocab_size)
    copied = []
    for name, tensor in _weights_of(model).items():
        values = source.weights.get(name)
        if values is None or name in excluded or name not in shapes or tensor.shape == shapes[name]:
            continue
        if values.shape == shapes[name]:
            first_entries(tensor, shapes[name]).copy_(values)
            copied.append(_Copied(name, name, whole=False))
    return copied


def _reason(theirs: Tensor | None, ours: Tensor) -> str:
    """Return why a tensor has not been copied."""
    if theirs is None:
        return ABSENT
    if theirs.shape != ours.shape:
        return f"its shape is {tuple(theirs.shape)} there and {tuple(ours.shape)} here"
    return f"its numbers are of type {theirs.dtype} there and {ours.dtype} here"


def _same_kind(first: Tensor, second: Tensor) -> bool:
    """Whether numbers may be copied: half precision is converted, weights rounded to integers are not."""
    return first.dtype == second.dtype or (first.is_floating_point() and second.is_floating_point())
