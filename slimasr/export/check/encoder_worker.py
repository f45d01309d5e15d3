"""Runs an encoder in onnxruntime, in a process of its own.

::

    python slimasr/export/check/encoder_worker.py < job.json

It needs numpy and onnxruntime alone, and is run by `slimasr.export.check.emulate` on an emulated processor, where
everything else would take long or is not installed.

Standard input has one JSON object, the job::

    {"encoder": ..., "features": <file of float32 features, utterance behind utterance>, "bins": 80,
     "frames": [123, ...], "out": <file that is written, float32, utterance behind utterance>}

Standard output gets ``{"shape": [1, T', C]}`` for each utterance.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime


def main() -> None:
    """Do the job of standard input."""
    job = json.load(sys.stdin)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(job["encoder"], options, providers=["CPUExecutionProvider"])
    x, x_lens = (entry.name for entry in session.get_inputs())
    bins = job["bins"]
    with open(job["features"], "rb") as features, open(job["out"], "wb") as out:
        for frames in job["frames"]:
            utterance = np.fromfile(features, np.float32, frames * bins).reshape(1, frames, bins)
            found = session.run(None, {x: utterance, x_lens: np.array([frames], dtype=np.int64)})[0]
            out.write(np.ascontiguousarray(found, dtype=np.float32).tobytes())
            print(json.dumps({"shape": list(found.shape)}), flush=True)


if __name__ == "__main__":
    main()
