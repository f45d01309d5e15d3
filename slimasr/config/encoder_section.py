"""What all encoders' sections have in common: paths through layers, units of modules, groups of units."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import model_validator

from slimasr.config.section import Natural, Positive, Section


class TreeConfig(Section):
    """A tree of layers: branches of different depths, which have their first layers in common (paper 3)."""

    shared: Natural
    """Number of layers at the input that all branches have in common, below the smallest depth; 0 = every branch has
    layers of its own only."""

    depths: list[Positive]
    """Numbers of layers of the branches, at least two, from the deepest, which is ``num_layers``, to the shallowest."""

    @model_validator(mode="after")
    def _possible(self) -> TreeConfig:
        if len(self.depths) < 2 or self.depths != sorted(set(self.depths), reverse=True):
            raise ValueError("depths: needs at least two depths, all different, the deepest first")
        if self.shared >= self.depths[-1]:
            raise ValueError(f"shared: must be below the smallest depth, {self.depths[-1]}")
        return self


class EncoderSection(Section):
    """What the sections of all encoders have in common."""

    # Every encoder declares these again, with its own default and sentence.
    kind: str
    d_model: Positive
    num_layers: Positive

    tree: TreeConfig | None = None
    """Branches of different depths that share their first layers, of which the deepest is the max subnet; null = one
    path through all layers."""

    @model_validator(mode="after")
    def _tree_of_this_depth(self) -> EncoderSection:
        if self.tree is not None and self.tree.depths[0] != self.num_layers:
            raise ValueError(
                f"tree.depths: the first must be the depth of the deepest path (num_layers), {self.num_layers}"
            )
        return self

    def _require_all_layers(self, key: str, entries: Sequence[object] | None) -> None:
        """Refuse a list of sizes of single layers that has not one entry per layer."""
        if entries is not None and len(entries) != self.total_layers:
            raise ValueError(f"{key}: needs one entry per encoder layer, {self.total_layers}")

    @property
    def paths(self) -> list[tuple[int, ...]]:
        """Ids of the layers of every branch, deepest first; the only path if there is no tree.

        The deepest path has the layers 0 to ``num_layers - 1``. Every other branch starts with the shared ones of
        these, and its own layers are numbered on from those of the branch before.
        """
        paths = [tuple(range(self.num_layers))]
        if self.tree is None:
            return paths
        shared = self.tree.shared
        for depth in self.tree.depths[1:]:
            first = paths[-1][-1] + 1
            paths.append((*range(shared), *range(first, first + depth - shared)))
        return paths

    @property
    def total_layers(self) -> int:
        """Number of layers of all branches together."""
        return self.paths[-1][-1] + 1

    @property
    def streams(self) -> bool:
        """Whether the encoder can run on a stream, as it needs no more than some frames of look-ahead."""
        return False

    @property
    def unit_sizes(self) -> dict[str, int]:
        """Module -> its units in a layer of full size, from which a space of layers may choose."""
        return {}

    @property
    def layer_units(self) -> list[dict[str, int]]:
        """`unit_sizes` of every layer in the order of the layers' ids; 0 = the layer has no such module."""
        return [self.unit_sizes] * self.total_layers

    @property
    def group_sizes(self) -> dict[str, int | None]:
        """Module -> units of its smallest groups, in running order; None = the module is one group (paper 4).

        These are chunks of ``d_model`` feed-forward channels, single heads and whole convolution modules.
        """
        return {}

    def check_groups(self) -> None:
        """Refuse sizes that cannot be cut into groups of `group_sizes`.

        Raises:
            ValueError: one line that says which size and what to do, without a key in front.
        """
        for layer, units in enumerate(self.layer_units):
            for module, size in self.group_sizes.items():
                if size is not None and units[module] % size:
                    raise ValueError(
                        f"{module} of layer {layer} has {units[module]} channels, which cannot be cut into chunks of "
                        f"{size} (d_model); change model.encoder.ffn_dim, or take whole modules (layer)"
                    )
