"""Recognition by onnxruntime: the searches are the same, but run sessions instead of modules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from slimasr.config.search import DecodingConfig
from slimasr.data.batch import Batch
from slimasr.data.tokenizer import Tokenizer
from slimasr.decoding.graph import SearchGraph
from slimasr.decoding.recognize import Recognition
from slimasr.decoding.words import word_search
from slimasr.encoders.base import EncoderOutput
from slimasr.export.onnx import CtcFiles, OnnxFiles, TransducerFiles, needed
from slimasr.models.base import SpeechModel
from slimasr.models.ctc import CtcModel
from slimasr.models.predictor import PredictorState
from slimasr.models.transducer import Transducer
from slimasr.scoring import Utterance
from slimasr.supernet.subnet import Subnet


class OnnxTransducer:
    """A transducer in onnxruntime that can be searched like one in torch. Projections are part of its files."""

    def __init__(self, files: TransducerFiles, model: Transducer, threads: int = 1) -> None:
        """Open the files.

        Args:
            files: the files of the three parts.
            model: the model that they were exported from, for its sizes and the state before the first label.
            threads: number of threads of each session.

        Raises:
            UserError: the extra ``export`` is not installed.
        """
        self.blank_id = model.blank_id
        self.vocab_size = model.vocab_size
        self.config = model.config
        self.encoder = _Session(files.encoder, threads)
        self.predictor = _OnnxPredictor(_Session(files.predictor, threads), model)
        self.joiner = _OnnxJoiner(_Session(files.joiner, threads))

    def encode(self, x: Tensor, x_lens: Tensor) -> EncoderOutput:
        """(N, T, F) features -> projected encoder output."""
        am, lens = self.encoder.run(x, x_lens)
        return EncoderOutput(am, lens)

    def project_encoder(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """Return it unchanged: the output of `encode` is already projected, for the one subnet that was exported."""
        return encoder_out


class OnnxCtc:
    """A CTC model in onnxruntime that can be searched like one in torch. Its file has the output layer."""

    def __init__(self, files: CtcFiles, model: CtcModel, threads: int = 1) -> None:
        """Open the file; arguments and errors are those of `OnnxTransducer`."""
        self.blank_id = model.blank_id
        self.vocab_size = model.vocab_size
        self.config = model.config
        self.session = _Session(files.ctc, threads)
        # The file has no label prior.
        self.ctc_head_of = model.ctc_head_of

    def encode(self, x: Tensor, x_lens: Tensor) -> EncoderOutput:
        """(N, T, F) features -> log-probabilities of the labels."""
        log_probs, lens = self.session.run(x, x_lens)
        return EncoderOutput(log_probs, lens)

    def ctc_logits(self, encoder_out: Tensor, subnet: Subnet | None = None) -> Tensor:
        """Return it unchanged: the output of `encode` has the scores already, of the one subnet that was exported."""
        return encoder_out


OnnxModel = OnnxTransducer | OnnxCtc
"""A model of either kind in onnxruntime."""


def open_runtime(files: OnnxFiles, model: SpeechModel, threads: int = 1) -> OnnxModel:
    """Open exported files in onnxruntime.

    Args:
        files: the files.
        model: the model that they were exported from.
        threads: number of threads of each session.

    Raises:
        UserError: the extra ``export`` is not installed.
    """
    if isinstance(model, CtcModel):
        assert isinstance(files, CtcFiles)
        return OnnxCtc(files, model, threads)
    assert isinstance(model, Transducer) and isinstance(files, TransducerFiles)
    return OnnxTransducer(files, model, threads)


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
    recognition = Recognition(word_search(model, tokenizer, config, graph=graph))
    utterances: list[Utterance] = []
    for batch in batches:
        for row in range(len(batch)):
            one = batch.select([row])
            utterances += recognition.utterances(one, lambda part: model.encode(part.x, part.x_lens))
    return utterances


class _Session:
    """An ONNX file in onnxruntime, with tensors as inputs and outputs."""

    def __init__(self, path: Path, threads: int) -> None:
        runtime = needed("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.names = [entry.name for entry in self.session.get_inputs()]

    def run(self, *inputs: Tensor) -> list[Tensor]:
        """Run the file on inputs in the order in which it was exported."""
        feeds = {name: value.contiguous().numpy() for name, value in zip(self.names, inputs, strict=True)}
        return [torch.from_numpy(value) for value in self.session.run(None, feeds)]


class _OnnxPredictor:
    """See `slimasr.decoding.searchable.SearchablePredictor`; the output is already projected."""

    def __init__(self, session: _Session, model: Transducer) -> None:
        self.session = session
        self.init_state = model.predictor.init_state

    def step(self, labels: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        out, *after = self.session.run(labels, *state.tensors)
        return out, PredictorState(tuple(after))


class _OnnxJoiner:
    """See `slimasr.decoding.searchable.SearchableJoiner`."""

    def __init__(self, session: _Session) -> None:
        self.session = session

    def project_predictor(self, predictor_out: Tensor) -> Tensor:
        return predictor_out

    def __call__(self, am: Tensor, lm: Tensor) -> Tensor:
        # The file has (n, J) inputs only: flatten all leading dimensions, and restore them afterwards.
        am, lm = torch.broadcast_tensors(am, lm)
        (logits,) = self.session.run(am.reshape(-1, am.shape[-1]), lm.reshape(-1, lm.shape[-1]))
        return logits.view(*am.shape[:-1], -1)
