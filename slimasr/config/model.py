"""The network: front end, encoder, predictor, joiner. Sizes are those of the max subnet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from slimasr.config.section import MelBins, Natural, Positive, PositiveFloat, Rate, Section

if TYPE_CHECKING:
    from slimasr.config.schema import Config


class ConvFrontendConfig(Section):
    """Two strided convolutions, which reduce the frame rate by 4, then a linear layer to ``d_model``."""

    kind: Literal["conv"] = "conv"
    """Selects the convolutional front end."""

    channels: Positive = 64
    """Channels of both convolutions at width 1."""

    @property
    def min_frames(self) -> int:
        """The fewest feature frames that make an encoder frame."""
        return 7  # Two kernels of 3 with stride 2: 3 + 2 * 2.

    def output_frames(self, num_frames: int) -> int:
        """Encoder frames of ``num_frames`` feature frames."""
        # Each convolution has a kernel of 3, a stride of 2 and no padding: (T - 1) // 2 frames of T.
        return max(0, ((num_frames - 1) // 2 - 1) // 2)


class StackFrontendConfig(Section):
    """A linear layer per frame; then ``factor`` frames are concatenated to one of ``d_model`` channels (paper 2)."""

    kind: Literal["stack"] = "stack"
    """Selects the front end that stacks frames."""

    factor: Positive = 4
    """Number of feature frames of 10 ms in an encoder frame; must divide ``d_model`` at every width."""

    @property
    def min_frames(self) -> int:
        """The fewest feature frames that make an encoder frame."""
        return self.factor

    def output_frames(self, num_frames: int) -> int:
        """Encoder frames of ``num_frames`` feature frames."""
        return num_frames // self.factor


FrontendConfig = Annotated[ConvFrontendConfig | StackFrontendConfig, Field(discriminator="kind")]


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


class EncoderSection(Section):
    """What the sections of all encoders have in common."""

    # Every encoder declares these again, with its own default and sentence.
    kind: str
    d_model: Positive
    num_layers: Positive

    @property
    def unit_sizes(self) -> dict[str, int]:
        """Module -> its units in a layer of full size, from which a space of layers may choose."""
        return {}

    @property
    def layer_units(self) -> list[dict[str, int]]:
        """`unit_sizes` of every layer, the one at the input first; 0 = the layer has no such module."""
        return [self.unit_sizes] * self.num_layers


class ConformerConfig(EncoderSection):
    """Elastic Conformer (paper 1)."""

    kind: Literal["conformer"] = "conformer"
    """Selects the Conformer."""

    d_model: Positive = 256
    """Channels between the layers, and inner channels of the convolution modules."""

    num_layers: Positive = 16
    """Number of layers."""

    num_heads: Positive = 4
    """Attention heads of a layer."""

    head_dim: Positive = 64
    """Channels of an attention head; ``num_heads * head_dim`` need not be ``d_model``."""

    ffn_dim: Positive = 1024
    """Hidden channels of each of a layer's two feed-forward modules."""

    kernel_size: Positive = 31
    """Width of the depthwise convolution in encoder frames; must be odd."""

    attention: Literal["relative", "plain"] = "relative"
    """Relative positions in every attention module (Dai et al. 2019), or sinusoids added once to the first layer's
    input."""

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

    layers: list[LayerSizes] | None = None
    """Sizes of every single layer, one entry per layer, as slimasr-extract writes them; null = all layers have the
    sizes above."""

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
    """Number of layers."""

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

    convolution: Literal["fft", "real"] = "fft"
    """Convolution by Fourier transforms, or the same with real arithmetic, for runtimes without complex numbers."""

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
        if self.ffn_dims is not None and len(self.ffn_dims) != self.num_layers:
            raise ValueError("ffn_dims: needs one entry per encoder layer (num_layers)")
        return self

    @property
    def unit_sizes(self) -> dict[str, int]:
        return {"ffn": self.ffn_dim}

    @property
    def layer_units(self) -> list[dict[str, int]]:
        if self.ffn_dims is None:
            return super().layer_units
        return [{"ffn": size} for size in self.ffn_dims]


EncoderConfig = Annotated[ConformerConfig | MhSsmConfig, Field(discriminator="kind")]


class StatelessPredictorConfig(Section):
    """Embedding and a grouped 1-D convolution over the last ``context_size`` labels."""

    kind: Literal["stateless"] = "stateless"
    """Selects the stateless predictor, which device runtimes load."""

    dim: Positive = 512
    """Channels of embedding and output."""

    context_size: Positive = 2
    """Number of most recent labels that the predictor sees."""

    dropout: Rate = 0.0
    """Dropout probability at the embeddings; 0 = none."""


class LstmPredictorConfig(Section):
    """Embedding and an LSTM over the whole label history."""

    kind: Literal["lstm"] = "lstm"
    """Selects the LSTM predictor."""

    dim: Positive = 512
    """Channels of the LSTM layers and of the output."""

    num_layers: Positive = 2
    """Number of LSTM layers."""

    embedding_dim: Positive = 512
    """Channels of the label embedding."""

    dropout: Rate = 0.1
    """Dropout probability before, between and after the LSTM layers; 0 = none."""


class JoinerConfig(Section):
    """Joiner, which projects encoder and predictor to ``dim``, adds both, and projects the activation to tokens."""

    dim: Positive = 512
    """Channels to which encoder and predictor outputs are projected before they are added."""

    projection: Literal["linear", "gated"] = "linear"
    """Projection of the encoder's output: a linear layer, or a linear layer, ReLU and layer norm, as at an exit (see
    ``model.exits``)."""

    activation: Literal["tanh", "relu", "none"] = "tanh"
    """Function between the sum and the output layer."""


PredictorConfig = Annotated[StatelessPredictorConfig | LstmPredictorConfig, Field(discriminator="kind")]


class ModelConfig(Section):
    """A transducer: front end, encoder, predictor, joiner."""

    num_mel_bins: MelBins = 80
    """Size of the feature frames that the model reads; must equal ``features.num_mel_bins``."""

    frontend: FrontendConfig = ConvFrontendConfig()
    """Network that turns feature frames of 10 ms into fewer, wider encoder frames."""

    encoder: EncoderConfig = ConformerConfig()
    """Elastic network over the audio."""

    predictor: PredictorConfig = StatelessPredictorConfig()
    """Network over the labels emitted so far, shared by all subnets."""

    joiner: JoinerConfig = JoinerConfig()
    """Network that scores the next label."""

    exits: list[Positive] = []
    """Depths with a projection of the encoder's output of their own (linear, ReLU, layer norm; paper 2, baseline A3),
    rising, at most ``encoder.num_layers``; one after the last layer is a second output for training only."""

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
