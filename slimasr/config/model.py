"""The network: front end, encoder, and what turns its output into labels. Sizes are those of the max subnet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, model_validator

from slimasr.config.encoders import ConformerConfig, EncoderConfig
from slimasr.config.section import MelBins, Positive, Rate, Section

if TYPE_CHECKING:
    from slimasr.config.schema import Config


class ConvFrontendConfig(Section):
    """Two strided convolutions, which reduce the frame rate by 4, then a linear layer to ``d_model``."""

    kind: Literal["conv"] = "conv"
    """Selects the convolutional front end."""

    channels: Positive = 64
    """Channels of both convolutions at width 1."""

    @property
    def factor(self) -> int:
        """Number of feature frames of 10 ms in an encoder frame."""
        return 4  # Two strides of 2.

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


class VggFrontendConfig(Section):
    """Four padded convolutions in two pairs, each followed by a maximum over two frames, then a linear layer (paper 4).

    The convolutions see frames behind each utterance's end as zeros, so it needs whole utterances.
    """

    kind: Literal["vgg"] = "vgg"
    """Selects the VGG front end, for encoders that need whole utterances."""

    channels: tuple[Positive, Positive, Positive, Positive] = (32, 64, 64, 32)
    """Channels of the four convolutions at width 1."""

    @property
    def factor(self) -> int:
        """Number of feature frames of 10 ms in an encoder frame."""
        return 4  # Two maxima over two frames each.

    @property
    def min_frames(self) -> int:
        """The fewest feature frames that make an encoder frame."""
        return self.factor

    def output_frames(self, num_frames: int) -> int:
        """Encoder frames of ``num_frames`` feature frames."""
        # An odd last frame takes part in the convolutions but not in the maxima.
        return num_frames // self.factor


FrontendConfig = Annotated[ConvFrontendConfig | StackFrontendConfig | VggFrontendConfig, Field(discriminator="kind")]


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


class ModelSection(Section):
    """What all kinds of models have in common: front end, encoder, and outputs at some depths."""

    main_loss: ClassVar[str]
    """Name of the loss that every subnet is trained for, with weight 1; other losses have weights relative to it."""

    num_mel_bins: MelBins = 80
    """Size of the feature frames that the model reads; must equal ``features.num_mel_bins``."""

    frontend: FrontendConfig = ConvFrontendConfig()
    """Network that turns feature frames of 10 ms into fewer, wider encoder frames."""

    encoder: EncoderConfig = ConformerConfig()
    """Elastic network over the audio."""

    exits: list[Positive] = []
    """Depths with an output of their own, rising, at most ``encoder.num_layers``: of a transducer a projection of the
    encoder's output (linear, ReLU, layer norm; paper 2, baseline A3), of a CTC model an output layer (paper 4,
    Aux-Loss); one after the last layer is a second output there."""

    @model_validator(mode="after")
    def _exits_exist(self) -> ModelSection:
        if self.exits != sorted(set(self.exits)):
            raise ValueError("exits: must be different and rise")
        if self.exits and self.exits[-1] > self.encoder.num_layers:
            raise ValueError(f"exits: the encoder has {self.encoder.num_layers} layers (encoder.num_layers)")
        return self

    @model_validator(mode="after")
    def _frontend_streams(self) -> ModelSection:
        if self.frontend.kind == "vgg" and self.encoder.streams:
            raise ValueError(
                f"frontend.kind: vgg needs whole utterances, but this encoder of kind {self.encoder.kind} streams; "
                "choose conv or stack"
            )
        return self

    def check(self, config: Config) -> None:
        if config.features.num_mel_bins != self.num_mel_bins:
            raise ValueError("model.num_mel_bins: must equal features.num_mel_bins")
        if self.encoder.tree is not None and config.space.kind != "branches":
            raise ValueError("model.encoder.tree: its branches are the subnets of space.kind: branches; set that")


class TransducerConfig(ModelSection):
    """A transducer: front end, encoder, predictor, joiner."""

    main_loss: ClassVar[str] = "transducer"

    kind: Literal["transducer"] = "transducer"
    """Selects the transducer."""

    predictor: PredictorConfig = StatelessPredictorConfig()
    """Network over the labels emitted so far, shared by all subnets."""

    joiner: JoinerConfig = JoinerConfig()
    """Network that scores the next label."""


OF_TRANSDUCERS = (
    "transducer",
    "rnnt_type",
    "backend",
    "prune_range",
    "simple_scale",
    "lm_scale",
    "am_scale",
    "warmup",
    "left_buffer",
    "right_buffer",
    "delay_penalty",
    "ctc_weight",
    "distillation",
)
"""Keys of ``loss`` that mean nothing without a transducer."""


class CtcConfig(ModelSection):
    """A CTC model: front end, encoder, and a linear output layer that classifies each encoder frame (paper 4)."""

    main_loss: ClassVar[str] = "ctc"

    kind: Literal["ctc"] = "ctc"
    """Selects the CTC model, whose main loss is CTC with weight 1."""

    dropout: Rate = 0.0
    """Dropout probability before the output layer; 0 = none."""

    def check(self, config: Config) -> None:
        super().check(config)
        # What a recipe asks of a lattice, a predictor or a joiner would silently have no effect.
        for key in OF_TRANSDUCERS:
            field = type(config.loss).model_fields[key]
            if getattr(config.loss, key) != field.get_default(call_default_factory=True):
                raise ValueError(f"loss.{key}: has no meaning for a CTC model (model.kind: ctc); leave it out")
        if getattr(config.method, "share_predictor", None) is not None:
            raise ValueError("method.share_predictor: a CTC model has no predictor (model.kind: ctc); leave it out")
        if any(phase.kd_weight is not None for phase in getattr(config.method, "phases", ())):
            raise ValueError("method.phases: kd_weight has no meaning for a CTC model (model.kind: ctc); leave it out")
        if config.decoding.kind == "modified_beam":
            raise ValueError("decoding.kind: modified_beam needs a transducer, not model.kind: ctc; choose another")
        if config.decoding.max_symbols_per_frame != 1:
            raise ValueError("decoding.max_symbols_per_frame: a CTC model emits at most one per frame; leave it out")


ModelConfig = Annotated[TransducerConfig | CtcConfig, Field(discriminator="kind")]
"""The kinds of models. YAML without ``kind`` is a transducer."""


def read_model(data: Mapping[str, Any]) -> ModelConfig:
    """Check plain data, as ``model_dump`` returns them, and return the configuration of a model.

    Raises:
        pydantic.ValidationError: a key is unknown, of the wrong type or impossible.
    """
    adapter: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)
    return adapter.validate_python(data)
