"""Search spaces: which subnets a supernet is trained for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from slimasr.config.section import Positive, PositiveFraction, Section, SubnetText, is_distinct

if TYPE_CHECKING:
    from slimasr.config.schema import Config

RESERVED_NAMES = ("max", "min", "all", "front")
"""Names of subnets that mean the same in every space."""


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
    """Sizes of a layer's modules at width 1 (``ffn`` of the MH-SSM; ``heads``, ``ffn`` of the Emformer, with
    ``macaron`` also ``ffn1``, with ``conv_kernel`` also ``conv``; ``ffn1``, ``heads``, ``conv``, ``ffn2`` of the
    Conformer), which every layer chooses for itself; all different, the encoder's own size the largest; modules not
    named keep their size."""

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


class ListSpaceConfig(Section):
    """The whole encoder and some subnets of it, which the recipe lists."""

    kind: Literal["list"] = "list"
    """Selects a list of subnets."""

    subnets: dict[str, SubnetText]
    """Subnets other than the whole encoder, the largest first, each with a name for commands and a description in JSON;
    all different."""

    @model_validator(mode="after")
    def _named(self) -> ListSpaceConfig:
        for name in self.subnets:
            if (
                name in RESERVED_NAMES
                or name.startswith("{")
                or not name.isprintable()
                or name != name.strip()
                or not name
            ):
                taken = ", ".join(RESERVED_NAMES)
                raise ValueError(
                    f"subnets: {name!r} cannot name a subnet; {taken} and JSON mean something else already"
                )
        return self


class LearntSpaceConfig(Section):
    """Subnets that the training chooses (paper 4); each is named by its budget, such as 0.63 or 4 blocks."""

    kind: Literal["learnt"] = "learnt"
    """Selects subnets that the method chooses; until it has, the whole encoder is the only one."""

    def check(self, config: Config) -> None:
        share = config.method.switch_share
        if share is None:
            raise ValueError(
                f"space.kind: learnt needs a method that chooses subnets, but {config.method.kind} does not"
            )
        # The weights of the time before belong to no subnet, so that an average with them would fit none.
        if config.training.average_start < share:
            raise ValueError(
                f"training.average_start: must be at least {share:g}, the part of the run after which the method "
                "has chosen its subnets"
            )


_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class PathwaySpaceConfig(Section):
    """Pathways: the whole model with a mask over blocks of its matrices for every language (paper 5)."""

    kind: Literal["pathways"] = "pathways"
    """Selects a space of pathways, each of which can be named by its language, such as fr."""

    languages: list[str]
    """Languages as supervisions name them, all different, each with a pathway of its own; ``[all]`` = one pathway for
    every language."""

    block: tuple[Positive, Positive] = (8, 1)
    """Outputs and inputs of the blocks of a matrix that are kept or pruned as a whole."""

    @model_validator(mode="after")
    def _named(self) -> PathwaySpaceConfig:
        for language in self.languages:
            if (language in RESERVED_NAMES and language != "all") or not _LANGUAGE.fullmatch(language):
                raise ValueError(f"languages: {language!r} cannot name a pathway; give a language such as fr")
        # Names of files have underscores in place of hyphens.
        if not self.languages or not is_distinct([language.replace("-", "_") for language in self.languages]):
            raise ValueError("languages: needs at least one, all different")
        if "all" in self.languages and len(self.languages) > 1:
            raise ValueError("languages: all is one pathway for every language; leave out the others")
        return self

    def check(self, config: Config) -> None:
        method = config.method
        if not method.trains_pathways:
            raise ValueError(f"space.kind: pathways needs a method that trains pathways, but {method.kind} does not")
        if len(self.languages) == 1:
            return
        if getattr(config.model.encoder, "conv_norm", "layer") == "batch":
            raise ValueError(
                "model.encoder.conv_norm: statistics of a batch norm would fit none of several pathways; set layer"
            )
        # Of methods that have this key, null means yes.
        if getattr(method, "share_predictor", False) is not False:
            raise ValueError("method.share_predictor: each pathway has a predictor of its own; set false")


SpaceConfig = Annotated[
    WidthSpaceConfig | LayerSpaceConfig | BranchSpaceConfig | ListSpaceConfig | LearntSpaceConfig | PathwaySpaceConfig,
    Field(discriminator="kind"),
]
