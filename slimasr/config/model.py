"""The network: front end, encoder, predictor, joiner. Sizes are those of the max subnet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from slimasr.config.section import MelBins, Natural, Positive, PositiveFloat, Rate, Section

if TYPE_CHECKING:
    from slimasr.config.schema import Config


class ConvFrontendConfig(Section):
    """Two strided convolutions, time reduced 4 times, then a linear layer to ``d_model``."""

    kind: Literal["conv"] = "conv"
    channels: Positive = 64

    @property
    def min_frames(self) -> int:
        """The fewest feature frames that give an encoder frame."""
        return 7

    def output_frames(self, num_frames: int) -> int:
        """Encoder frames of ``num_frames`` feature frames."""
        return max(0, ((num_frames - 1) // 2 - 1) // 2)


class StackFrontendConfig(Section):
    """A linear layer per frame, then ``factor`` frames side by side as one of ``d_model`` channels (paper 2)."""

    kind: Literal["stack"] = "stack"
    factor: Positive = 4

    @property
    def min_frames(self) -> int:
        """The fewest feature frames that give an encoder frame."""
        return self.factor

    def output_frames(self, num_frames: int) -> int:
        """Encoder frames of ``num_frames`` feature frames."""
        return num_frames // self.factor


FrontendConfig = Annotated[ConvFrontendConfig | StackFrontendConfig, Field(discriminator="kind")]


class LayerSizes(Section):
    """Sizes of one Conformer layer, as extraction writes them; 0 = the module is absent."""

    ffn1: Natural
    heads: Natural
    conv: Natural
    ffn2: Natural


class EncoderSection(Section):
    """What the sections of all encoders have in common."""

    kind: str
    d_model: Positive
    num_layers: Positive

    @property
    def unit_sizes(self) -> dict[str, int]:
        """Module -> its units in a layer of full size: what a space of layers may choose from."""
        return {}

    @property
    def layer_units(self) -> list[dict[str, int]]:
        """The same for every layer, the one at the input first; 0 = the layer has no such module."""
        return [self.unit_sizes] * self.num_layers


class ConformerConfig(EncoderSection):
    """Elastic Conformer (paper 1).

    ``adaptive_dropout`` lowers the dropout on the hidden channels of a feed-forward module in proportion to how many
    of them run (paper 2).
    """

    kind: Literal["conformer"] = "conformer"
    d_model: Positive = 256
    num_layers: Positive = 16
    num_heads: Positive = 4
    head_dim: Positive = 64
    ffn_dim: Positive = 1024
    kernel_size: Positive = 31
    attention: Literal["relative", "plain"] = "relative"
    position_dim: Positive | None = None
    slimming: Literal["head_count", "head_size"] = "head_count"
    norm: Literal["per_width", "shared", "recalibrated"] = "per_width"
    dropout: Rate = 0.1
    adaptive_dropout: bool = False
    layers: list[LayerSizes] | None = None

    @model_validator(mode="after")
    def _possible(self) -> ConformerConfig:
        if self.kernel_size % 2 == 0:
            raise ValueError("kernel_size: must be odd, so that frames keep their place")
        if self.layers is not None and len(self.layers) != self.num_layers:
            raise ValueError("layers: needs one entry per encoder layer (num_layers)")
        return self

    @property
    def unit_sizes(self) -> dict[str, int]:
        return {"ffn1": self.ffn_dim, "heads": self.num_heads, "conv": self.d_model, "ffn2": self.ffn_dim}

    @property
    def layer_units(self) -> list[dict[str, int]]:
        return super().layer_units if self.layers is None else [layer.model_dump() for layer in self.layers]


class MhSsmConfig(EncoderSection):
    """Elastic encoder of multi-head state space models (paper 2).

    ``ssm_state`` counts real numbers per channel. ``bidirectional: false`` gives the forward form, which streams.
    ``convolution: real`` computes the same with real numbers alone, for runtimes without complex ones. Systems
    start with time steps from ``dt_min`` to ``dt_max`` and poles of this ``decay``: a kernel's length is about 1 /
    (dt decay) frames. ``spread_heads`` gives each head its own range of time scales between ``dt_min`` and
    ``dt_max``, from local to global. ``ffn_dims`` are the sizes of single layers, as extraction writes them; 0 =
    the module is absent. ``adaptive_dropout``: see the Conformer.
    """

    kind: Literal["mh_ssm"] = "mh_ssm"
    d_model: Positive = 512
    num_layers: Positive = 16
    ssm_heads: Positive = 1
    ssm_stacks: Positive = 2
    ssm_state: Positive = 32
    ffn_dim: Positive = 4096
    bidirectional: bool = True
    convolution: Literal["fft", "real"] = "fft"
    dt_min: PositiveFloat = 1e-3
    dt_max: PositiveFloat = 1e-1
    decay: PositiveFloat = 0.5
    spread_heads: bool = False
    norm: Literal["per_width", "shared"] = "per_width"
    dropout: Rate = 0.1
    adaptive_dropout: bool = False
    ffn_dims: list[Natural] | None = None

    @model_validator(mode="after")
    def _possible(self) -> MhSsmConfig:
        if self.ssm_state % 2:
            raise ValueError("ssm_state: must be even, states being conjugate pairs")
        if self.ssm_heads > 1 and self.ssm_heads % 2:
            raise ValueError("ssm_heads: must be 1 or even, as heads gate each other in pairs")
        if self.d_model % self.ssm_heads:
            raise ValueError("d_model: must be a multiple of ssm_heads")
        if self.dt_min >= self.dt_max:
            raise ValueError("dt_min: must be below dt_max")
        if self.ffn_dims is not None and len(self.ffn_dims) != self.num_layers:
            raise ValueError("ffn_dims: needs one entry per encoder layer (num_layers)")
        return self

    @property
    def unit_sizes(self) -> dict[str, int]:
        return {"ffn": self.ffn_dim}

    @property
    def layer_units(self) -> list[dict[str, int]]:
        return super().layer_units if self.ffn_dims is None else [{"ffn": size} for size in self.ffn_dims]


EncoderConfig = Annotated[ConformerConfig | MhSsmConfig, Field(discriminator="kind")]


class StatelessPredictorConfig(Section):
    """Embedding and a grouped 1-D convolution over the last ``context_size`` labels."""

    kind: Literal["stateless"] = "stateless"
    dim: Positive = 512
    context_size: Positive = 2
    dropout: Rate = 0.0


class LstmPredictorConfig(Section):
    """Embedding and an LSTM over the whole label history."""

    kind: Literal["lstm"] = "lstm"
    dim: Positive = 512
    num_layers: Positive = 2
    embedding_dim: Positive = 512
    dropout: Rate = 0.1


class JoinerConfig(Section):
    """Project encoder and predictor to ``dim``, add, activate, project to the vocabulary.

    ``projection: gated`` rectifies and normalises the encoder's side, as an exit does (see ``model.exits``).
    """

    dim: Positive = 512
    projection: Literal["linear", "gated"] = "linear"
    activation: Literal["tanh", "relu", "none"] = "tanh"


PredictorConfig = Annotated[StatelessPredictorConfig | LstmPredictorConfig, Field(discriminator="kind")]


class ModelConfig(Section):
    """A transducer: front end, encoder, predictor, joiner.

    ``exits``: depths whose subnets project the encoder's output by themselves: linear, ReLU, layer norm (paper 2,
    baseline A3). One after the last layer is a second output of the full depth, for training only.
    """

    num_mel_bins: MelBins = 80
    frontend: FrontendConfig = ConvFrontendConfig()
    encoder: EncoderConfig = ConformerConfig()
    predictor: PredictorConfig = StatelessPredictorConfig()
    joiner: JoinerConfig = JoinerConfig()
    exits: list[Positive] = []

    @model_validator(mode="after")
    def _exits_exist(self) -> ModelConfig:
        if self.exits != sorted(set(self.exits)):
            raise ValueError("exits: must be different and rise")
        if self.exits and self.exits[-1] > self.encoder.num_layers:
            raise ValueError(f"exits: the encoder has {self.encoder.num_layers} layers (encoder.num_layers)")
        return self

    def check(self, config: Config) -> None:
        if config.features.num_mel_bins != self.num_mel_bins:
            raise ValueError("model.num_mel_bins: must equal features.num_mel_bins")
