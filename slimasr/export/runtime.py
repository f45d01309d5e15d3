"""Recognition by the files of a bundle in onnxruntime: the searches are our own, but run sessions, not modules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.data.batches.batch import Batch
from slimasr.data.features.frames import SILENCE
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.decoding.recognize import Recognition
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.words import word_search
from slimasr.decoding.tune import with_scales
from slimasr.encoders.base import EncoderOutput
from slimasr.errors import UserError
from slimasr.export.context import HistoryPredictor
from slimasr.export.manifest import Manifest, StreamingNote
from slimasr.export.session import Session
from slimasr.models.base import FRAMES_PER_SECOND, SpeechModel
from slimasr.models.ctc import CtcModel
from slimasr.models.transducer import Transducer
from slimasr.scoring import Utterance
from slimasr.supernet.subnet import Subnet


class OnnxTransducer:
    """A transducer in onnxruntime that can be searched like one in torch. Projections are part of its files."""

    def __init__(self, encoder: Session, decoder: Session, joiner: Session, context: int, model: Transducer) -> None:
        """Take the open files.

        Args:
            encoder: the encoder of one size.
            decoder: the network over the last labels.
            joiner: what combines both.
            context: number of labels that the decoder sees.
            model: the model that they were made of, for its sizes.
        """
        self.blank_id = model.blank_id
        self.vocab_size = model.vocab_size
        self.config = model.config
        self.encoder = encoder
        self.predictor = HistoryPredictor(lambda history: decoder.run(history)[0], context)
        self.joiner = _OnnxJoiner(joiner)

    def encode(self, x: Tensor, x_lens: Tensor) -> EncoderOutput:
        """(N, T, F) features -> projected encoder output."""
        out, lens = self.encoder.run(x, x_lens)
        return EncoderOutput(out, lens)

    def project_encoder(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """Return it unchanged: the output of `encode` is already projected, for the one subnet that was exported."""
        return encoder_out


class OnnxStreamTransducer(OnnxTransducer):
    """A transducer whose encoder takes chunks; `encode` runs one whole utterance through them."""

    def __init__(
        self, encoder: Session, decoder: Session, joiner: Session, context: int, model: Transducer, how: StreamingNote
    ) -> None:
        """Take the open files; see `OnnxTransducer`.

        Args:
            how: how the encoder is fed, with the shapes of its states.
        """
        super().__init__(encoder, decoder, joiner, context, model)
        self.how = how

    def encode(self, x: Tensor, x_lens: Tensor) -> EncoderOutput:
        """(1, T, F) features -> projected encoder output, of the silence behind the utterance, too."""
        frames = int(x_lens)
        end = round(self.how.tail_seconds * FRAMES_PER_SECOND)
        padded = F.pad(x[:, :frames], (0, 0, 0, end), value=SILENCE)
        states = [torch.zeros(shape) for shape in self.how.states]
        chunks = []
        # As sherpa-onnx, which waits until there are more frames than it feeds.
        for start in range(0, padded.shape[1] - self.how.window_frames, self.how.chunk_frames):
            window = padded[:, start : start + self.how.window_frames]
            seen = [torch.tensor([start])] if self.how.carrier == "conformer" else []
            out, *states = self.encoder.run(window, *states, *seen)
            chunks.append(out)
        encoded = torch.cat(chunks, dim=1)
        return EncoderOutput(encoded, torch.tensor([encoded.shape[1]]))


class OnnxCtc:
    """A CTC model in onnxruntime that can be searched like one in torch. Its file has the output layer."""

    def __init__(self, encoder: Session, model: CtcModel) -> None:
        """Take the open file, and the model that it was made of, for its sizes and the label prior."""
        self.blank_id = model.blank_id
        self.vocab_size = model.vocab_size
        self.config = model.config
        self.encoder = encoder
        # The file has no label prior.
        self.ctc_head_of = model.ctc_head_of

    def encode(self, x: Tensor, x_lens: Tensor) -> EncoderOutput:
        """(N, T, F) features -> log-probabilities of the labels."""
        out, lens = self.encoder.run(x, x_lens)
        return EncoderOutput(out, lens)

    def ctc_logits(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """Return it unchanged: the output of `encode` has the scores already, of the one subnet that was exported."""
        return encoder_out


OnnxModel = OnnxTransducer | OnnxCtc
"""A model of either kind in onnxruntime."""


def open_size(
    folder: Path, manifest: Manifest, size: str, model: SpeechModel, *, int8: bool = False, threads: int = 1
) -> OnnxModel:
    """Open the files of one size in onnxruntime.

    Args:
        folder: the bundle.
        manifest: its manifest.
        size: id of the size.
        model: the model that it was made of.
        int8: whether to open the int8 encoder.
        threads: number of threads of each session.

    Raises:
        UserError: there is no such size, or it has no int8 file, or the extra ``export`` is not installed.
    """
    note = manifest.size(size)
    variant = note.int8 if int8 else note.float
    if variant is None:
        raise UserError(f"{folder}: size {size} has no int8 file; write it with slimasr-export --int8")
    encoder = Session(folder / variant.encoder, threads)
    if isinstance(model, CtcModel):
        return OnnxCtc(encoder, model)
    assert isinstance(model, Transducer)
    decoder = note.decoder or manifest.decoder
    joiner = note.joiner or (int8 and manifest.joiner_int8) or manifest.joiner
    assert decoder and joiner and manifest.context_size
    search = (Session(folder / decoder, threads), Session(folder / joiner, threads))
    if manifest.streaming is None:
        return OnnxTransducer(encoder, *search, manifest.context_size, model)
    how = manifest.streaming.model_copy(update={"states": variant.states or manifest.streaming.states})
    return OnnxStreamTransducer(encoder, *search, manifest.context_size, model, how)


def decode_onnx(
    model: OnnxModel,
    batches: Iterable[Batch],
    tokenizer: Tokenizer,
    config: DecodingConfig,
    graph: SearchGraph | None = None,
) -> list[Utterance]:
    """Recognise one utterance after another, as on a device, and return references and hypotheses.

    In a batch, the scale of int8 activations would depend on all of its utterances.
    """
    if graph is not None:
        # The scores of the file have their scales already.
        config = with_scales(config, 1.0, 0.0)
    recognition = Recognition(word_search(model, tokenizer, config, graph=graph))
    utterances: list[Utterance] = []
    for batch in batches:
        for row in range(len(batch)):
            one = batch.select([row])
            utterances += recognition.utterances(one, lambda part: model.encode(part.x, part.x_lens))
    return utterances


class _OnnxJoiner:
    """See `slimasr.decoding.searches.searchable.SearchableJoiner`."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def project_predictor(self, predictor_out: Tensor) -> Tensor:
        return predictor_out

    def __call__(self, am: Tensor, lm: Tensor) -> Tensor:
        # The file has (n, J) inputs only: flatten all leading dimensions, and restore them afterwards.
        am, lm = torch.broadcast_tensors(am, lm)
        (logits,) = self.session.run(am.reshape(-1, am.shape[-1]), lm.reshape(-1, lm.shape[-1]))
        return logits.view(*am.shape[:-1], -1)
