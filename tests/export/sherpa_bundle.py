"""Recognises recordings with a size of a bundle in sherpa-onnx, in a process of its own, which sherpa-onnx may end.

Arguments: a JSON object with the keys ``folder``, ``encoder`` (file) and ``wavs``, and perhaps ``provider``. Prints the
token strings of each recording, and the manifest tells the rest.
"""

import json
import sys
from pathlib import Path

import numpy as np
import sherpa_onnx
import soundfile

given = json.loads(sys.argv[1])
folder = Path(given["folder"])
manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
audio = {"sample_rate": manifest["audio"]["sample_rate"], "feature_dim": manifest["audio"]["num_mel_bins"]}
audio["provider"] = given.get("provider", "cpu")
files = {role: str(folder / manifest[role]) for role in ("decoder", "joiner", "tokens") if manifest[role]}
encoder = str(folder / given["encoder"])
if manifest["streaming"]:
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(encoder=encoder, **files, **audio)
elif manifest["kind"] == "ctc":
    recognizer = sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(model=encoder, **files, **audio)
else:
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(encoder=encoder, **files, **audio)

found = []
for wav in given["wavs"]:
    samples, rate = soundfile.read(wav, dtype="float32")
    stream = recognizer.create_stream()
    stream.accept_waveform(rate, samples)
    if manifest["streaming"]:
        tail = round(manifest["streaming"]["tail_seconds"] * rate)
        stream.accept_waveform(rate, np.zeros(tail, np.float32))
        stream.input_finished()
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        found.append(recognizer.tokens(stream))
    else:
        recognizer.decode_stream(stream)
        found.append(stream.result.tokens)
print(json.dumps(found))
