"""How a subnet is run: as a slice of the shared weights, or cut out of them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from slimasr.models.base import TRAINING_HEADS, SpeechModel
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Prepared:
    """A subnet that is ready to run: ``model`` with ``active``, whatever the subnet is.

    Attributes:
        subnet: the subnet, as the search space knows it.
        model: the supernet, or a stand-alone model that was cut out of it.
        active: the subnet to run of ``model``, None for all of a stand-alone model.
    """

    subnet: Subnet
    model: SpeechModel
    active: Subnet | None


def prepare(model: SpeechModel, subnet: Subnet) -> Prepared:
    """Prepare a subnet: a pathway is cut out, which copies the model once; any other one runs in the shared weights.

    Heads that only losses use stay with a pathway, which has the width of the whole model.

    Args:
        model: the supernet.
        subnet: the subnet.

    Raises:
        ValueError: the subnet is a pathway that the model does not have.
    """
    if not subnet.pathway:
        return Prepared(subnet, model, subnet)
    alone = model.extract(subnet)
    # What only losses use is needed here too: for the loss on dev, and for alignments by the CTC head.
    for name in TRAINING_HEADS:
        if hasattr(model, name):
            setattr(alone, name, copy.deepcopy(getattr(model, name)))
    return Prepared(subnet, alone, None)


def runnable(model: SpeechModel, subnet: Subnet | None) -> tuple[SpeechModel, Subnet | None]:
    """Return the model that runs a subnet and what to run of it, as `prepare` does; None = the whole model."""
    if subnet is None:
        return model, None
    prepared = prepare(model, subnet)
    return prepared.model, prepared.active
