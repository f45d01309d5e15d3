"""Search spaces: which subnets a supernet is trained for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from slimasr.config.section import Positive, PositiveFraction, Section, is_distinct

if TYPE_CHECKING:
    from slimasr.config.schema import Config


class WidthSpaceConfig(Section):
    """Subnets that differ in width only (paper 1)."""

    kind: Literal["widths"] = "widths"
    """Selects a space of widths."""

    widths: list[PositiveFraction] = [0.25, 0.5, 0.75, 1.0]
    """Fractions of all channel numbers of the encoder, each of which must come out whole; all different, 1.0 among
    them."""

    @model_validator(mode="after")
    def _holds_one(self) -> WidthSpaceConfig:
        if 1.0 not in self.widths or not is_distinct(self.widths):
            raise ValueError("widths: must be different and contain 1.0")
        return self


class LayerSpaceConfig(Section):
    """Subnets that differ in depth, and layer by layer in inner sizes (paper 2)."""

    kind: Literal["layers"] = "layers"
    """Selects a space of depths and layer sizes."""

    depths: list[Positive]
    """Numbers of encoder layers, of which smaller subnets lack the last ones; all different, the largest is
    ``model.encoder.num_layers``."""

    units: dict[str, list[Positive]] = {}
    """Sizes of a layer's modules at width 1 (``ffn`` of the MH-SSM; ``heads``, ``ffn`` of the Emformer; ``ffn1``,
    ``heads``, ``conv``, ``ffn2`` of the Conformer), which every layer chooses for itself; all different, the encoder's
    own size the largest; modules not named keep their size."""

    widths: list[PositiveFraction] = [1.0]
    """Fractions of all channel numbers of the encoder, as in ``kind: widths``."""

    @model_validator(mode="after")
    def _different(self) -> LayerSpaceConfig:
        if 1.0 not in self.widths or not is_distinct(self.widths):
            raise ValueError("widths: must be different and contain 1.0")
        if not self.depths or not is_distinct(self.depths):
            raise ValueError("depths: needs at least one depth, all different")
        for module, sizes in self.units.items():
            if not sizes or not is_distinct(sizes):
                raise ValueError(f"units.{module}: needs at least one size, all different")
        return self

    def check(self, config: Config) -> None:
        encoder = config.model.encoder
        # The max subnet must be the encoder itself, so that no weight of it is left untrained.
        if max(self.depths) != encoder.num_layers:
            raise ValueError(f"space.depths: the largest must be model.encoder.num_layers, {encoder.num_layers}")
        for module, sizes in self.units.items():
            if module not in encoder.unit_sizes:
                known = ", ".join(encoder.unit_sizes)
                raise ValueError(f"space.units.{module}: a {encoder.kind} layer has no such module; it has {known}")
            if max(sizes) != encoder.unit_sizes[module]:
                full = encoder.unit_sizes[module]
                raise ValueError(f"space.units.{module}: the largest must be the encoder's own size, {full}")


class BranchSpaceConfig(Section):
    """The branches of ``model.encoder.tree`` (paper 3), each of which can be named by its depth, such as l14."""

    kind: Literal["branches"] = "branches"
    """Selects the branches of the encoder's tree."""

    def check(self, config: Config) -> None:
        if config.model.encoder.tree is None:
            raise ValueError("space.kind: branches are those of model.encoder.tree; give the tree, or another kind")


SpaceConfig = Annotated[WidthSpaceConfig | LayerSpaceConfig | BranchSpaceConfig, Field(discriminator="kind")]
