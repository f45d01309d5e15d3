"""Build the search space of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slimasr.errors import UserError
from slimasr.supernet.list_space import MAX_NAME, ListSpace, learnt_space
from slimasr.supernet.space import LayerSpace, SearchSpace, WidthSpace
from slimasr.supernet.subnet import Subnet, Units, exit_name, with_exit

if TYPE_CHECKING:
    from slimasr.config.schema import Config


def build_space(config: Config) -> SearchSpace:
    """Build the search space of a recipe, whose branches are those of its encoder.

    A space that is learnt is the max subnet alone here; a checkpoint holds the others (`slimasr.experiment`).

    Raises:
        UserError: a listed subnet does not fit the encoder; the message names it.
    """
    space = config.space
    if space.kind == "widths":
        return WidthSpace(tuple(space.widths))
    if space.kind == "branches":
        return branch_space(config.model.encoder.paths, config.model.exits)
    if space.kind == "list":
        return listed_space(config)
    if space.kind == "learnt":
        return learnt_space(())
    if space.kind == "pathways":
        names = tuple(space.languages)
        return ListSpace(tuple(Subnet(pathway=name) for name in names), names, gene="pathway")
    units = tuple((module, tuple(sizes)) for module, sizes in space.units.items())
    return LayerSpace(tuple(space.depths), units, tuple(space.widths), tuple(config.model.exits))


def branch_space(paths: Sequence[tuple[int, ...]], exits: Sequence[int] = ()) -> ListSpace:
    """Return the space of the branches of a tree, which are called ``l14`` and so on by their depths.

    Args:
        paths: ids of the layers of every branch; the first is the path of the max subnet.
        exits: depths of this path with an output of their own, which a branch uses that is the beginning of it.
    """
    # The max subnet has no path, as in every other space.
    subnets = (Subnet(), *(with_exit(Subnet(1.0, path), exits) for path in paths[1:]))
    # The gene of this name is in the studies of trees.
    return ListSpace(subnets, tuple(f"l{len(path)}" for path in paths), gene="branch")


def listed_space(config: Config) -> ListSpace:
    """Return the space of the subnets that a recipe lists, with the max subnet before them.

    Raises:
        UserError: a description is wrong, does not fit the encoder, or is there twice; the message names the subnet.
    """
    assert config.space.kind == "list"
    found = {Subnet(): MAX_NAME}
    for name, text in config.space.subnets.items():
        try:
            subnet = Subnet.from_json(text)
            _check_fits(subnet, config)
            if subnet in found:
                raise ValueError(f"is the same subnet as {found[subnet]}")
        except ValueError as error:
            raise UserError(f"space.subnets.{name}: {error}") from None
        found[subnet] = name
    return ListSpace(tuple(found), tuple(found.values()))


def _check_fits(subnet: Subnet, config: Config) -> None:
    """Raise ValueError unless the model of a recipe has the layers, the units and the output of a subnet."""
    if subnet.pathway:
        raise ValueError(f"pathway: only space.kind: pathways has pathways such as {subnet.pathway}")
    layers = config.model.encoder.layer_units
    path = subnet.path
    if path is not None and (len(set(path)) != len(path) or not path or not set(path) <= set(range(len(layers)))):
        raise ValueError(f"path: must hold different layers of 0 to {len(layers) - 1}, at least one; got {list(path)}")
    for key, units in subnet.units:
        number, module = key.split(".", 1)
        size = layers[int(number)].get(module) if int(number) < len(layers) else None
        if size is None:
            raise ValueError(f"units: the encoder has no {key}")
        if _end_of(units) > size:
            raise ValueError(f"units of {key}: the module has only {size}")
    heads = [*map(exit_name, config.model.exits), *config.method.heads]
    if subnet.head is not None and subnet.head not in heads:
        known = ", ".join(heads) or "none besides the main one"
        raise ValueError(f"head: the model has no output {subnet.head}; it has {known}; model.exits adds outputs")


def _end_of(units: Units) -> int:
    """Return the unit behind the last one that is chosen."""
    return units if isinstance(units, int) else units[-1][1]
