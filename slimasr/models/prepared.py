"""How a subnet is run: as a slice of the shared weights, or cut out of them."""

from __future__ import annotations

from dataclasses import dataclass

from slimasr.models.base import SpeechModel
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

    Args:
        model: the supernet.
        subnet: the subnet.

    Raises:
        ValueError: the subnet is a pathway that the model does not have.
    """
    if subnet.pathway:
        return Prepared(subnet, model.extract(subnet), None)
    return Prepared(subnet, model, subnet)
