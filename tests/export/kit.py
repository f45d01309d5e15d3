"""Opens graphs of models in a folder that has nothing else of a bundle."""

from __future__ import annotations

from pathlib import Path

from slimasr.export.runtime import OnnxCtc, OnnxModel, OnnxTransducer
from slimasr.export.session import Session
from slimasr.export.writer import encoder_file, own_file
from slimasr.models.base import SpeechModel
from slimasr.models.ctc import CtcModel
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet


def opened(model: SpeechModel, folder: Path, subnet: Subnet, context: int = 0, *, int8: bool = False) -> OnnxModel:
    """Open the graphs of a subnet; ``context`` is that of an LSTM predictor's decoder."""
    encoder = Session(folder / encoder_file(subnet, int8=int8))
    if isinstance(model, CtcModel):
        return OnnxCtc(encoder, model)
    assert isinstance(model, Transducer)
    own = folder / own_file(subnet, "decoder.onnx")
    decoder = Session(own if own.is_file() else folder / "decoder.onnx")
    predictor = model.config.predictor
    labels = context if predictor.kind == "lstm" else predictor.context_size
    return OnnxTransducer(encoder, decoder, Session(folder / "joiner.onnx"), labels, model)
