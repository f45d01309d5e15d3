"""Search spaces define which subnets exist; they draw, vary and parse subnets."""

from __future__ import annotations

import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from slimasr.errors import UserError
from slimasr.supernet.subnet import Subnet, scaled, with_exit

Number = TypeVar("Number", int, float)
Gene = int | float
"""The value of one choice: a width, a depth, or a number of units."""


class SearchSpace(ABC):
    """All subnets of a supernet. Random choices use only the caller's generator."""

    @property
    @abstractmethod
    def max(self) -> Subnet:
        """The subnet with all weights active."""

    @property
    @abstractmethod
    def min(self) -> Subnet:
        """The smallest subnet."""

    @property
    @abstractmethod
    def widths(self) -> tuple[float, ...]:
        """All widths, descending; per-width norms exist for these."""

    @abstractmethod
    def count(self) -> int:
        """Count the different subnets."""

    @abstractmethod
    def __iter__(self) -> Iterator[Subnet]:
        """Iterate over all subnets, largest first. Check `count` before: there may be too many."""

    @abstractmethod
    def __contains__(self, subnet: object) -> bool:
        """Return whether the subnet is one of this space."""

    @property
    @abstractmethod
    def genes(self) -> dict[str, tuple[Gene, ...]]:
        """Gene name -> its choices, the largest network first, including those of layers that a subnet may drop."""

    @abstractmethod
    def genes_of(self, subnet: Subnet) -> dict[str, Gene]:
        """Return the choices of a subnet, without those of dropped layers."""

    @abstractmethod
    def from_genes(self, genes: Mapping[str, Gene]) -> Subnet:
        """Create the subnet with these choices, which are those of all genes or at least of the layers that run."""

    @abstractmethod
    def sample(self, rng: random.Random) -> Subnet:
        """Draw a subnet: each gene uniformly from its choices, so not every subnet is equally likely."""

    @abstractmethod
    def mutate(self, subnet: Subnet, rng: random.Random, probability: float) -> Subnet:
        """Copy a subnet; each gene is drawn again with the given probability."""

    @abstractmethod
    def crossover(self, a: Subnet, b: Subnet, rng: random.Random) -> Subnet:
        """Create a child that takes each gene from either parent."""

    @property
    def pathways(self) -> tuple[str, ...]:
        """Names of the pathways of its subnets, in the order of these; empty where subnets have none."""
        return ()

    def describe(self) -> dict[str, Any]:
        """Return plain JSON data that differs between any two different spaces."""
        return {name: list(choices) for name, choices in self.genes.items()}

    def canonical(self, subnet: Subnet) -> Subnet:
        """Return a subnet of this space, possibly from a file of an earlier version, as the space itself writes it."""
        return subnet

    def parse(self, text: str) -> Subnet:
        """Parse a width (``0.5``), an id (``w0.5``), ``max``, ``min`` or JSON.

        Raises:
            UserError: the text is not a subnet of this space.
        """
        try:
            subnet = self._read(text.strip())
        except ValueError as error:
            raise UserError(f"subnet {text!r}: {error}; {self._hint()}") from None
        if subnet is None or subnet not in self:
            raise UserError(f"subnet {text!r} is not in the search space; {self._hint()}")
        return subnet

    def _read(self, text: str) -> Subnet | None:
        """Read a subnet, which may lie outside the space; None = the text is an unknown id.

        Raises:
            ValueError: the text is not valid JSON or not a valid width.
        """
        if text in ("max", "min"):
            return self.max if text == "max" else self.min
        if text.startswith("{"):
            return Subnet.from_json(text)
        try:
            return Subnet(width=float(text))
        except ValueError:
            return next((subnet for subnet in self if subnet.id == text), None)

    def _hint(self) -> str:
        """Say in an error message which subnets exist."""
        return f"choose one of: {', '.join(subnet.id for subnet in self)}"


@dataclass(frozen=True)
class WidthSpace(SearchSpace):
    """Subnets that differ only in width (paper 1)."""

    choices: tuple[float, ...]

    def __post_init__(self) -> None:
        # The only way to set a field of a frozen data class
        object.__setattr__(self, "choices", _descending(self.choices))

    @property
    def max(self) -> Subnet:
        return Subnet(self.choices[0])

    @property
    def min(self) -> Subnet:
        return Subnet(self.choices[-1])

    @property
    def widths(self) -> tuple[float, ...]:
        return self.choices

    def count(self) -> int:
        return len(self.choices)

    def __iter__(self) -> Iterator[Subnet]:
        return (Subnet(width) for width in self.choices)

    def __contains__(self, subnet: object) -> bool:
        # Comparing with the plain width refuses subnets with a path or units.
        return isinstance(subnet, Subnet) and subnet.width in self.choices and subnet == Subnet(subnet.width)

    @property
    def genes(self) -> dict[str, tuple[Gene, ...]]:
        return {"width": self.choices}

    def genes_of(self, subnet: Subnet) -> dict[str, Gene]:
        return {"width": subnet.width}

    def from_genes(self, genes: Mapping[str, Gene]) -> Subnet:
        return Subnet(genes["width"])

    def sample(self, rng: random.Random) -> Subnet:
        return Subnet(rng.choice(self.choices))

    def mutate(self, subnet: Subnet, rng: random.Random, probability: float) -> Subnet:
        if rng.random() < probability:
            return self.sample(rng)
        return subnet

    def crossover(self, a: Subnet, b: Subnet, rng: random.Random) -> Subnet:
        return rng.choice((a, b))


@dataclass(frozen=True)
class LayerSpace(SearchSpace):
    """Subnets that differ in depth and, layer by layer, in the units of named modules (paper 2, section 3.1).

    Layers are dropped at the output side. A subnet has no genes that keep everything, so the max subnet of a width is
    ``Subnet(width)``. At a width below 1, units are scaled by it: a `Subnet` holds the scaled sizes, while genes and
    the dictionaries of sizes inside this class hold those at width 1.

    Attributes:
        depths: numbers of layers, descending.
        units: (module, sizes at width 1, descending), sorted by module; every layer chooses independently.
        choices: widths, descending.
        exits: depths with an output of their own; subnets of such a depth, except of the full one, use it.
    """

    depths: tuple[int, ...]
    units: tuple[tuple[str, tuple[int, ...]], ...] = ()
    choices: tuple[float, ...] = (1.0,)
    exits: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        # Every order of the same choices is the same space, with the same random draws.
        units = sorted((module, _descending(sizes)) for module, sizes in self.units)
        object.__setattr__(self, "depths", _descending(self.depths))
        object.__setattr__(self, "units", tuple(units))
        object.__setattr__(self, "choices", _descending(self.choices))

    @property
    def max(self) -> Subnet:
        return self._subnet(self.choices[0], self.depths[0], {})

    @property
    def min(self) -> Subnet:
        depth = self.depths[-1]
        smallest = {(layer, module): sizes[-1] for layer in range(depth) for module, sizes in self.units}
        return self._subnet(self.choices[-1], depth, smallest)

    @property
    def widths(self) -> tuple[float, ...]:
        return self.choices

    def count(self) -> int:
        per_layer = 1
        for _, sizes in self.units:
            per_layer *= len(sizes)
        # Layers choose independently, and dropped layers have no choices.
        return len(self.choices) * sum(per_layer**depth for depth in self.depths)

    def __iter__(self) -> Iterator[Subnet]:
        for width, depth in itertools.product(self.choices, self.depths):
            genes = self._genes(depth)
            keys = [key for key, _ in genes]
            # Without units there is one empty product: the depth as it is.
            for sizes in itertools.product(*(choices for _, choices in genes)):
                yield self._subnet(width, depth, dict(zip(keys, sizes, strict=True)))

    def __contains__(self, subnet: object) -> bool:
        if not isinstance(subnet, Subnet) or subnet.width not in self.choices or subnet.pathway:
            return False
        depth = self._depth(subnet)
        if depth not in self.depths or subnet.path not in (None, tuple(range(depth))):
            return False
        # Without a head, as files of earlier versions have it, a subnet still is that of its exit.
        if subnet.head not in (None, self._subnet(subnet.width, depth, {}).head):
            return False
        # Genes that keep everything may be absent or explicit here: sizes[0] is allowed as well.
        allowed = {
            f"{layer}.{module}": [scaled(size, subnet.width) for size in sizes]
            for layer in range(depth)
            for module, sizes in self.units
        }
        return all(key in allowed and size in allowed[key] for key, size in subnet.units)

    @property
    def genes(self) -> dict[str, tuple[Gene, ...]]:
        layers = {f"{layer}.{module}": sizes for (layer, module), sizes in self._genes(self.depths[0])}
        return {"width": self.choices, "depth": self.depths, **layers}

    def genes_of(self, subnet: Subnet) -> dict[str, Gene]:
        sizes = {f"{layer}.{module}": size for (layer, module), size in self._sizes(subnet).items()}
        return {"width": subnet.width, "depth": self._depth(subnet), **sizes}

    def from_genes(self, genes: Mapping[str, Gene]) -> Subnet:
        depth = int(genes["depth"])
        # Genes of layers beyond the depth are ignored.
        sizes = {(layer, module): int(genes[f"{layer}.{module}"]) for (layer, module), _ in self._genes(depth)}
        return self._subnet(genes["width"], depth, sizes)

    def sample(self, rng: random.Random) -> Subnet:
        width = rng.choice(self.choices)
        depth = rng.choice(self.depths)
        sizes = {key: rng.choice(choices) for key, choices in self._genes(depth)}
        return self._subnet(width, depth, sizes)

    def mutate(self, subnet: Subnet, rng: random.Random, probability: float) -> Subnet:
        """Copy a subnet; each gene is drawn again with the given probability, those of added layers always."""
        width = rng.choice(self.choices) if rng.random() < probability else subnet.width
        depth = rng.choice(self.depths) if rng.random() < probability else self._depth(subnet)
        old = self._sizes(subnet)
        sizes = {}
        for key, choices in self._genes(depth):
            # An added layer takes no random number for whether it changes. The order of draws fixes the results of a
            # seed, so it must stay.
            if key not in old or rng.random() < probability:
                sizes[key] = rng.choice(choices)
            else:
                sizes[key] = old[key]
        return self._subnet(width, depth, sizes)

    def crossover(self, a: Subnet, b: Subnet, rng: random.Random) -> Subnet:
        """Create a child that takes each gene from either parent; layers of only one parent are taken from it."""
        width = rng.choice((a.width, b.width))
        depth = rng.choice((self._depth(a), self._depth(b)))
        parents = [self._sizes(a), self._sizes(b)]
        sizes = {}
        for key, _ in self._genes(depth):
            inherited = [parent[key] for parent in parents if key in parent]
            sizes[key] = rng.choice(inherited)
        return self._subnet(width, depth, sizes)

    def canonical(self, subnet: Subnet) -> Subnet:
        """Return the same network without genes that keep everything, and with the head of its depth."""
        return self._subnet(subnet.width, self._depth(subnet), self._sizes(subnet))

    def _read(self, text: str) -> Subnet | None:
        """Read a subnet as `SearchSpace._read` does, but of the ids only those without units."""
        if text.startswith("{"):
            # A user may list genes that keep everything; canonical subnets compare equal.
            subnet = Subnet.from_json(text)
            return self.canonical(subnet) if subnet in self else None
        if text in ("max", "min"):
            return self.max if text == "max" else self.min
        try:
            return Subnet(width=float(text))
        except ValueError:
            # The other ids end in a hash, and there may be too many subnets to compare all hashes.
            full = (self._subnet(width, depth, {}) for width in self.choices for depth in self.depths)
            # Ids of earlier versions did not name the head.
            return next((subnet for subnet in full if text in (subnet.id, replace(subnet, head=None).id)), None)

    def _hint(self) -> str:
        units = "".join(f", {module} {'/'.join(map(str, sizes))}" for module, sizes in self.units)
        depths = "/".join(map(str, self.depths))
        return f"give max, min, or JSON of a subnet with depth {depths}{units}"

    def _genes(self, depth: int) -> list[tuple[tuple[int, str], tuple[int, ...]]]:
        """List (layer, module) and the sizes to choose from, layer by layer."""
        return [((layer, module), sizes) for layer in range(depth) for module, sizes in self.units]

    def _depth(self, subnet: Subnet) -> int:
        return self.depths[0] if subnet.path is None else len(subnet.path)

    def _sizes(self, subnet: Subnet) -> dict[tuple[int, str], int]:
        """Return (layer, module) -> size at width 1, for all layers that run."""
        units = dict(subnet.units)
        sizes = {}
        for (layer, module), choices in self._genes(self._depth(subnet)):
            # A missing gene keeps everything. The search over the choices inverts `scaled`.
            size_at_width = units.get(f"{layer}.{module}", scaled(choices[0], subnet.width))
            sizes[layer, module] = next(size for size in choices if scaled(size, subnet.width) == size_at_width)
        return sizes

    def _subnet(self, width: float, depth: int, sizes: Mapping[tuple[int, str], int]) -> Subnet:
        """Create the canonical subnet with these sizes at width 1; genes that keep everything are left out."""
        largest = {module: choices[0] for module, choices in self.units}
        units = [
            (f"{layer}.{module}", scaled(size, width))
            for (layer, module), size in sizes.items()
            if size != largest[module]
        ]
        path = None if depth == self.depths[0] else tuple(range(depth))
        return with_exit(Subnet(width, path, tuple(units)), self.exits)


def _descending(values: tuple[Number, ...]) -> tuple[Number, ...]:
    """Sort from large to small, without duplicates."""
    return tuple(sorted(set(values), reverse=True))
