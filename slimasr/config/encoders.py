"""The encoder: its kinds with their sizes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slimasr.config.encoder_section import EncoderSection
from slimasr.config.section import Natural, Positive, PositiveFloat, Rate, Section

ConformerModule = Literal["ffn1", "heads", "conv", "ffn2"]
"""The modules of a Conformer layer, named like the fields of `LayerSizes`."""


class LayerSizes(Section):
    """Sizes of one Conformer layer, as extraction writes them; 0 = the module is absent."""

    ffn1: Natural
    """Hidden channels of the first feed-forward module."""

    heads: Natural
    """Attention heads."""

    conv: Natural
    """Inner channels of the convolution module."""

    ffn2: Natural
    """Hidden channels of the second feed-forward module."""


class ConformerConfig(EncoderSection):
    """Elastic Conformer (paper 1)."""

    kind: Literal["conformer"] = "conformer"
    """Selects the Conformer."""

    d_model: Positive = 256
    """Channels between the layers, and inner channels of the convolution modules."""

    num_layers: Positive = 16
    """Number of layers; with a tree, those of its deepest path."""

    num_heads: Positive = 4
    """Attention heads of a layer."""

    head_dim: Positive = 64
    """Channels of an attention head; ``num_heads * head_dim`` need not be ``d_model``."""

    ffn_dim: Positive = 1024
    """Hidden channels of each of a layer's two feed-forward modules."""

    kernel_size: Positive = 31
    """Width of the depthwise convolution in encoder frames; must be odd."""

    order: list[ConformerModule] = ["ffn1", "heads", "conv", "ffn2"]
    """Order in which a layer runs its four modules, of which ``ffn2`` is the last; paper 4 has ``conv`` before
    ``heads``."""

    conv_norm: Literal["batch", "layer"] = "batch"
    """Norm between the filters and the activation of the convolution module: over the frames of a batch, or over the
    channels of a frame (paper 4)."""

    attention: Literal["relative", "plain", "none"] = "relative"
    """Positions in attention: relative ones in every module (Dai et al. 2019), sinusoids added once to the first
    layer's input, or none (paper 4)."""

    position_dim: Positive | None = None
    """Channels of the positional sinusoids, the same at every width; null = ``d_model``."""

    slimming: Literal["head_count", "head_size"] = "head_count"
    """What attention keeps at a smaller width: the first heads whole, or the first channels of every head."""

    norm: Literal["per_width", "shared", "recalibrated"] = "per_width"
    """Layer and batch norms: ``per_width`` has separate parameters and statistics for each width, ``shared`` has one
    set for all widths, and ``recalibrated`` shares the parameters but has separate statistics."""

    dropout: Rate = 0.1
    """Dropout probability in the front end and all modules; 0 = none."""

    adaptive_dropout: bool = False
    """Whether dropout at the hidden channels of a feed-forward module shrinks in proportion to how many of them run
    (paper 2)."""

    attention_dropout: Rate = 0.0
    """Dropout probability at the weights of attention; 0 = none."""

    layers: list[LayerSizes] | None = None
    """Sizes of every single layer, one entry per layer, as slimasr-extract writes them; null = all layers have the
    sizes above."""

    @model_validator(mode="after")
    def _possible(self) -> ConformerConfig:
        if self.kernel_size % 2 == 0:
            raise ValueError("kernel_size: must be odd, so that frames keep their place")
        if sorted(self.order) != sorted(self.unit_sizes) or self.order[-1] != "ffn2":
            raise ValueError("order: must name each of ffn1, heads, conv and ffn2 once, ffn2 as the last")
        self._require_all_layers("layers", self.layers)
        return self

    @property
    def unit_sizes(self) -> dict[str, int]:
        return {"ffn1": self.ffn_dim, "heads": self.num_heads, "conv": self.d_model, "ffn2": self.ffn_dim}

    @property
    def group_sizes(self) -> dict[str, int | None]:
        sizes = {"ffn1": self.d_model, "heads": 1, "conv": None, "ffn2": self.d_model}
        return {module: sizes[module] for module in self.order}

    @property
    def layer_units(self) -> list[dict[str, int]]:
        if self.layers is None:
            return super().layer_units
        return [layer.model_dump() for layer in self.layers]


class MhSsmConfig(EncoderSection):
    """Elastic encoder of multi-head state-space models (paper 2; Fathullah et al. 2023)."""

    kind: Literal["mh_ssm"] = "mh_ssm"
    """Selects multi-head state-space models."""

    d_model: Positive = 512
    """Channels between the layers; ``ssm_heads`` must divide it at every width."""

    num_layers: Positive = 16
    """Number of layers; with a tree, those of its deepest path."""

    ssm_heads: Positive = 1
    """Heads of a layer; must be 1 or even, as heads gate each other in pairs."""

    ssm_stacks: Positive = 2
    """State-space units in sequence within a head."""

    ssm_state: Positive = 32
    """Real numbers in the state of each channel and direction; must be even, as states are conjugate pairs."""

    ffn_dim: Positive = 4096
    """Hidden channels of a layer's feed-forward module."""

    bidirectional: bool = True
    """Whether a second set of systems runs backwards in time; false = every frame depends on the past alone, so that
    the encoder can stream."""

    convolution: Literal["fft", "real", "blocked"] = "fft"
    """Convolution by Fourier transforms, or the same in real arithmetic, for runtimes without complex numbers: direct
    sums, or block by block, in time linear in the length, which is the form that is exported."""

    dt_min: PositiveFloat = 1e-3
    """Smallest time step of the systems at the start of training, below ``dt_max``; a kernel is about
    1 / (dt * decay) encoder frames long."""

    dt_max: PositiveFloat = 1e-1
    """Largest time step of the systems at the start of training."""

    decay: PositiveFloat = 0.5
    """Decay of all poles at the start of training; large values make short kernels."""

    spread_heads: bool = False
    """Whether each head starts with its own part of the range from ``dt_min`` to ``dt_max``, from local to global;
    false = every head takes the whole range."""

    norm: Literal["per_width", "shared"] = "per_width"
    """Layer norms: separate ones for each width, or the same for all widths."""

    dropout: Rate = 0.1
    """Dropout probability in the front end and all modules; 0 = none."""

    adaptive_dropout: bool = False
    """Whether dropout at the hidden channels of a feed-forward module shrinks in proportion to how many of them run
    (paper 2)."""

    ffn_dims: list[Natural] | None = None
    """Hidden channels of the feed-forward module of every single layer, one entry per layer, as slimasr-extract writes
    them; 0 = the layer has no such module, null = ``ffn_dim`` for all."""

    @model_validator(mode="after")
    def _possible(self) -> MhSsmConfig:
        if self.ssm_state % 2:
            raise ValueError("ssm_state: must be even, as states are conjugate pairs")
        if self.ssm_heads > 1 and self.ssm_heads % 2:
            raise ValueError("ssm_heads: must be 1 or even, as heads gate each other in pairs")
        if self.d_model % self.ssm_heads:
            raise ValueError("d_model: must be a multiple of ssm_heads")
        if self.dt_min >= self.dt_max:
            raise ValueError("dt_min: must be below dt_max")
        self._require_all_layers("ffn_dims", self.ffn_dims)
        return self

    @property
    def streams(self) -> bool:
        return not self.bidirectional

    @property
    def unit_sizes(self) -> dict[str, int]:
        return {"ffn": self.ffn_dim}

    @property
    def group_sizes(self) -> dict[str, int | None]:
        return {"ffn": self.d_model}

    @property
    def layer_units(self) -> list[dict[str, int]]:
        if self.ffn_dims is None:
            return super().layer_units
        return [{"ffn": size} for size in self.ffn_dims]


class EmformerConfig(EncoderSection):
    """Elastic Emformer, a streaming encoder whose segments see a limited context (paper 3; Shi et al. 2021).

    With ``macaron`` and ``conv_kernel``, its layers have the modules of a Conformer's (paper 5).

    Its frames are those behind the front end, 40 ms each.
    """

    kind: Literal["emformer"] = "emformer"
    """Selects the Emformer."""

    d_model: Positive = 512
    """Channels between the layers."""

    num_layers: Positive = 20
    """Number of layers; with a tree, those of its deepest path."""

    num_heads: Positive = 8
    """Attention heads of a layer; must divide ``d_model``, unless ``head_dim`` is given."""

    head_dim: Positive | None = None
    """Channels of an attention head; null = ``d_model / num_heads``."""

    ffn_dim: Positive = 2048
    """Hidden channels of a layer's feed-forward module, or of each of the two."""

    macaron: bool = False
    """Whether a layer has a second feed-forward module before the attention, and both are half-step residuals
    (paper 5)."""

    conv_kernel: Positive | None = None
    """Width in frames of the filters of a convolution module behind the attention, which sees a frame and those before
    it (paper 5); null = no convolution."""

    segment: Positive = 4
    """Frames of a segment, which are computed together; half of them are the encoder's average delay, in addition to
    ``right_context``."""

    left_context: Natural = 30
    """Frames before a segment to which it attends."""

    right_context: Natural = 1
    """Frames behind a segment to which it attends, the look-ahead of the whole encoder at any number of layers."""

    memory: Natural = 0
    """Earlier segments of which a layer attends to a summary that the layer below has made; 0 = no summaries."""

    memory_squash: Literal["tanh", "clamp"] = "tanh"
    """How summaries are bounded: by a hyperbolic tangent, or by cutting them off at -10 and 10."""

    position: Literal["none", "relative"] = "none"
    """Whether attention knows positions: not at all (paper 3), or by a learnt number for every head and distance, which
    at the start of training favours near frames."""

    slimming: Literal["head_count", "head_size"] = "head_count"
    """What attention keeps at a smaller width: the first heads whole, or the first channels of every head."""

    norm: Literal["per_width", "shared"] = "per_width"
    """Layer norms: separate ones for each width, or the same for all widths."""

    dropout: Rate = 0.1
    """Dropout probability in the front end, at attention weights and in all modules; 0 = none."""

    adaptive_dropout: bool = False
    """Whether dropout at the hidden channels of a feed-forward module shrinks in proportion to how many of them run
    (paper 2)."""

    head_counts: list[Natural] | None = None
    """Attention heads of every single layer, one entry per layer, as slimasr-extract writes them; 0 = the layer has no
    attention, null = ``num_heads`` for all."""

    ffn_dims: list[Natural] | None = None
    """Hidden channels of the last feed-forward module of every single layer, one entry per layer, as slimasr-extract
    writes them; 0 = the layer has no such module, null = ``ffn_dim`` for all."""

    ffn1_dims: list[Natural] | None = None
    """With ``macaron``, hidden channels of the first feed-forward module of every single layer, one entry per layer, as
    slimasr-extract writes them; 0 = the layer has no such module, null = ``ffn_dim`` for all."""

    conv_dims: list[Natural] | None = None
    """With ``conv_kernel``, inner channels of the convolution module of every single layer, one entry per layer, as
    slimasr-extract writes them; 0 = the layer has no such module, null = ``d_model`` for all."""

    @model_validator(mode="after")
    def _possible(self) -> EmformerConfig:
        if self.head_dim is None and self.d_model % self.num_heads:
            raise ValueError("d_model: must be a multiple of num_heads, unless head_dim is given")
        for key in ("head_counts", "ffn_dims", "ffn1_dims", "conv_dims"):
            self._require_all_layers(key, getattr(self, key))
        if self.ffn1_dims is not None and not self.macaron:
            raise ValueError("ffn1_dims: needs macaron: true, without which layers have no first module")
        if self.conv_dims is not None and self.conv_kernel is None:
            raise ValueError("conv_dims: needs conv_kernel, without which layers have no convolution")
        return self

    @property
    def head_channels(self) -> int:
        """Channels of an attention head."""
        return self.d_model // self.num_heads if self.head_dim is None else self.head_dim

    @property
    def streams(self) -> bool:
        return True

    @property
    def listed_sizes(self) -> dict[str, str]:
        """Module -> key of the sizes of all single layers, in running order, for the modules that layers have."""
        modules = {"heads": "head_counts"}
        if self.macaron:
            modules = {"ffn1": "ffn1_dims", **modules}
        if self.conv_kernel is not None:
            modules["conv"] = "conv_dims"
        return {**modules, "ffn": "ffn_dims"}

    @property
    def unit_sizes(self) -> dict[str, int]:
        sizes = {"ffn1": self.ffn_dim, "heads": self.num_heads, "conv": self.d_model, "ffn": self.ffn_dim}
        return {module: sizes[module] for module in self.listed_sizes}

    @property
    def group_sizes(self) -> dict[str, int | None]:
        sizes: dict[str, int | None] = {"ffn1": self.d_model, "heads": 1, "conv": None, "ffn": self.d_model}
        # A layer without attention hands on the summaries of the layer below, while heads of gate 0 would make empty
        # ones. So with summaries all heads stay.
        return {module: sizes[module] for module in self.listed_sizes if not (module == "heads" and self.memory)}

    @property
    def layer_units(self) -> list[dict[str, int]]:
        listed = {module: getattr(self, key) for module, key in self.listed_sizes.items()}
        return [
            {
                module: size if listed[module] is None else listed[module][index]
                for module, size in self.unit_sizes.items()
            }
            for index in range(self.total_layers)
        ]


EncoderConfig = Annotated[ConformerConfig | MhSsmConfig | EmformerConfig, Field(discriminator="kind")]
