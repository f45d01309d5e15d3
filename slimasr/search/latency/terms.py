"""The terms whose times add up to the latency of a subnet, and the choices of a search space that they cover.

A layer space has one set of terms per width: a base, one term that every layer adds (one per kind of layer, where
layers differ in shape), and for every module what each size adds to the next smaller one. Equal layers share their
terms, as a device runs them in the same time wherever they stand. Where a space lists its subnets, each is a term of
its own: its latency is measured, not predicted.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from slimasr.errors import UserError
from slimasr.supernet.space import LayerSpace, SearchSpace
from slimasr.supernet.subnet import Subnet

Terms = Mapping[str, float]
"""Name of a term -> how often it occurs in a subnet."""


@dataclass(frozen=True)
class Choice:
    """A choice of the search space, which a profile has to cover.

    Attributes:
        name: the choice in words: ``ffn 96 at width 0.5``.
        subnets: subnets with this choice; it is covered where a profile holds or determines one of them.
        within: name of the choice of which this one is a part, "" if there is none: where that is not covered, this is
            not named.
    """

    name: str
    subnets: tuple[Subnet, ...]
    within: str = ""


@dataclass(frozen=True)
class TermTable:
    """The terms of the subnets of a search space.

    Attributes:
        space: the search space.
        kinds: for every layer, the name of its kind; layers of one kind are equal in shape.
    """

    space: SearchSpace
    kinds: tuple[str, ...] = ()

    @classmethod
    def of(cls, space: SearchSpace, shapes: Sequence[Mapping[str, Hashable]]) -> TermTable:
        """Return the terms of a space.

        Args:
            space: the search space.
            shapes: the units of every layer by module (``layer_units`` of the encoder's configuration).

        Raises:
            UserError: the space consists of pathways, which all take the same time.
        """
        if space.pathways:
            raise UserError(
                "--latency: the pathways of this experiment run as the whole model with zeros and take the same time, "
                "so that latency chooses none of them; leave --latency out"
            )
        known: list[Mapping[str, Hashable]] = []
        for shape in shapes:
            if shape not in known:
                known.append(shape)
        return cls(space, tuple(str(known.index(shape)) for shape in shapes))

    @property
    def is_additive(self) -> bool:
        """Whether latencies of subnets that were not profiled can be predicted."""
        return isinstance(self.space, LayerSpace)

    def of_subnet(self, subnet: Subnet) -> Terms:
        """Return the terms of a subnet of the space."""
        if not isinstance(self.space, LayerSpace):
            return {subnet.id: 1.0}
        genes = self.space.genes_of(subnet)
        at = f"width {genes['width']:g}"
        terms = {f"{at}: base": 1.0}
        for layer in range(int(genes["depth"])):
            _add(terms, f"{at}: layer of kind {self._kind(layer)}")
            for module, sizes in self.space.units:
                chosen = genes[f"{layer}.{module}"]
                # What a size costs more than the next smaller one; the smallest is part of the layer's own term.
                for size in sizes[:-1]:
                    if chosen >= size:
                        _add(terms, f"{at}: {module} {size}")
        return terms

    def choices_of(self, subnet: Subnet) -> set[str]:
        """Return the names of the choices of a subnet."""
        if not isinstance(self.space, LayerSpace):
            return {f"subnet {subnet.id}"}
        genes = self.space.genes_of(subnet)
        name = f"width {genes['width']:g}"
        modules = [(module, layer) for module, _ in self.space.units for layer in range(int(genes["depth"]))]
        sizes = {f"{module} {genes[f'{layer}.{module}']} at {name}" for module, layer in modules}
        return {name, f"depth {genes['depth']} at {name}", *sizes}

    def choices(self) -> Iterator[Choice]:
        """Yield the choices that a profile has to cover."""
        if not isinstance(self.space, LayerSpace):
            for subnet in self.space:
                yield Choice(f"subnet {subnet.id}", (subnet,))
            return
        space = self.space
        for width in space.widths:
            name = f"width {width:g}"
            yield Choice(name, tuple(uniform_subnets(space, width)))
            for depth in space.depths:
                yield Choice(f"depth {depth} at {name}", (uniform(space, width, depth),), name)
            for module, sizes in space.units:
                for size in sizes:
                    chosen = uniform(space, width, space.depths[0], {module: size})
                    yield Choice(f"{module} {size} at {name}", (chosen,), name)

    def basis(self) -> list[Subnet]:
        """Return subnets whose latencies determine those of all others: the max subnet first, width by width."""
        if not isinstance(self.space, LayerSpace):
            return list(self.space)
        return [subnet for width in self.space.widths for subnet in uniform_subnets(self.space, width)]

    def _kind(self, layer: int) -> str:
        return self.kinds[layer] if layer < len(self.kinds) else "0"


def uniform_subnets(space: LayerSpace, width: float) -> Iterable[Subnet]:
    """Yield subnets of one width whose layers are equal: max, every depth, every size of one module, and min."""
    found = [uniform(space, width, depth) for depth in space.depths]
    deepest = space.depths[0]
    found += [uniform(space, width, deepest, {module: size}) for module, sizes in space.units for size in sizes]
    smallest = {module: sizes[-1] for module, sizes in space.units}
    found.append(uniform(space, width, space.depths[-1], smallest))
    return dict.fromkeys(found)


def uniform(space: LayerSpace, width: float, depth: int, sizes: Mapping[str, int] | None = None) -> Subnet:
    """Return the subnet whose layers all have these sizes; modules that are not named have their largest."""
    largest = {module: choices[0] for module, choices in space.units}
    chosen = {**largest, **(sizes or {})}
    genes = {f"{layer}.{module}": size for layer in range(depth) for module, size in chosen.items()}
    return space.from_genes({"width": width, "depth": depth, **genes})


def _add(terms: dict[str, float], name: str) -> None:
    terms[name] = terms.get(name, 0.0) + 1.0
