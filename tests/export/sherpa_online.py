"""Recognise files with sherpa-onnx's online recogniser, in a process of its own, as it ends the process on an error.

python sherpa_online.py FOLDER TAIL PIECE WAV... prints a list of token lists. FOLDER has encoder.onnx, decoder.onnx,
joiner.onnx and tokens.txt. All files are streams at the same time, fed in turn with PIECE samples, and TAIL seconds of
silence follow each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import sherpa_onnx
import soundfile


def main(folder: str, tail: str, piece: str, *files: str) -> None:
    parts = {name: str(Path(folder) / f"{name}.onnx") for name in ("encoder", "decoder", "joiner")}
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
        tokens=str(Path(folder) / "tokens.txt"), num_threads=1, **parts
    )
    size = int(piece)
    streams = [recognizer.create_stream() for _ in files]
    waiting = []
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        padded = np.pad(samples, (0, round(float(tail) * rate)))
        waiting.append([padded[start : start + size] for start in range(0, len(padded), size)])
    while any(waiting):
        for stream, pieces in zip(streams, waiting, strict=True):
            if pieces:
                stream.accept_waveform(rate, pieces.pop(0))
                if not pieces:
                    stream.input_finished()
        while ready := [stream for stream in streams if recognizer.is_ready(stream)]:
            recognizer.decode_streams(ready)
    print(json.dumps([recognizer.tokens(stream) for stream in streams]))


if __name__ == "__main__":
    main(*sys.argv[1:])
