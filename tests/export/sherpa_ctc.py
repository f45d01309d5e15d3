"""Recognise files with sherpa-onnx, in a process of its own, as it ends the process when it refuses a model.

python sherpa_ctc.py MODEL TOKENS GRAPH WAV... prints a list of token lists, or of lists of word ids with a graph.
"""

from __future__ import annotations

import json
import sys

import sherpa_onnx
import soundfile


def main(model: str, tokens: str, graph: str, *files: str) -> None:
    recognizer = sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(model=model, tokens=tokens, ctc_graph=graph)
    found = []
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        stream = recognizer.create_stream()
        stream.accept_waveform(rate, samples)
        recognizer.decode_stream(stream)
        found.append(list(stream.result.words if graph else stream.result.tokens))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
