"""README.md of a bundle: what it holds, and how to call it from sherpa-onnx and from ``run.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Manifest = Mapping[str, Any]
"""The content of manifest.json."""
PAGE = "index.html"
"""The web page of bundles that have one."""


def bundle_readme(manifest: Manifest) -> str:
    """Write the README of a bundle.

    Args:
        manifest: the content of its manifest.json (docs/bundle.md describes the fields).

    Returns:
        Markdown. Its Python examples run in the folder of the bundle with a recording ``a.wav``.
    """
    sections = [_head(manifest), _sizes(manifest), _python(manifest), _command_line(manifest)]
    if manifest["kind"] == "transducer":
        sections.append(_hotwords(manifest))
    if manifest["graph"]:
        sections.append(_graph(manifest))
    if any(size["int8"] for size in manifest["sizes"]):
        sections.append(_int8(manifest))
    sections += [_program(manifest), _switching(manifest)]
    if PAGE in manifest["files"]:
        sections.append(_browser())
    sections.append(_files(manifest))
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _head(manifest: Manifest) -> str:
    sizes = manifest["sizes"]
    kind = {"transducer": "transducer", "ctc": "CTC"}[manifest["kind"]]
    how = "recognises speech while it arrives" if manifest["streaming"] else "recognises whole utterances"
    several = f"{len(sizes)} sizes that share one file of weights" if len(sizes) > 1 else "one size"
    if len(sizes) > 1 and sizes[0]["float"]["weights"] is None:
        several = f"{len(sizes)} sizes in files of their own"
    audio = manifest["audio"]
    return f"""
# {manifest["model"]["name"]}

A speech recogniser ({kind}) in {several}. It {how}, at {audio["sample_rate"]} samples per second.
slimasr wrote this folder. An unmodified sherpa-onnx (Python, C++, Kotlin, Swift, Go, ...) runs it.
"""


def _sizes(manifest: Manifest) -> str:
    """The table of all sizes; WER in percent, a set each, where it was measured."""
    sizes = manifest["sizes"]
    kinds = ["float", "int8"] if any(size["int8"] for size in sizes) else ["float"]
    columns = [(kind, name) for kind in kinds for name in _sets(sizes, kind)]
    languages = manifest["languages"] is not None
    head = ["size", *(["language"] if languages else []), "parameters", "MMAC per second"]
    head += [f"MB, {kind}" for kind in kinds] + [f"WER {name}, {kind}" for kind, name in columns]
    rows = [head, ["---"] * len(head)]
    for size in sizes:
        row = [size["id"], *([size["language"] or "any"] if languages else [])]
        row += [f"{size['params']:,}", _millions(size.get("macs"))]
        row += [_millions(size[kind] and size[kind]["bytes"], 2) for kind in kinds]
        row += [_wer(size[kind], name) for kind, name in columns]
        rows.append(row)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"## Sizes\n\n{table}\n\nMB is what a runtime opens for the size, the file of weights as a whole."


def _sets(sizes: list[dict[str, Any]], kind: str) -> list[str]:
    return list(dict.fromkeys(name for size in sizes if size[kind] for name in size[kind]["wer"] or {}))


def _millions(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value / 1e6:.{digits}f}"


def _wer(entry: dict[str, Any] | None, name: str) -> str:
    value = (entry or {}).get("wer", {}).get(name)
    return "-" if value is None else f"{value:.1f}"


def _encoder(manifest: Manifest, place: int = 0) -> str:
    name: str = manifest["sizes"][place]["float"]["encoder"]
    return name


def _parts(manifest: Manifest, encoder: str) -> dict[str, str]:
    """Argument -> file, as sherpa-onnx's Python functions name them."""
    size = manifest["sizes"][0]
    if manifest["kind"] == "ctc":
        return {"model": encoder, "tokens": manifest["tokens"]}
    named = {role: size.get(role) or manifest[role] for role in ("decoder", "joiner")}
    return {"encoder": encoder, **named, "tokens": manifest["tokens"]}


def _call(manifest: Manifest, **more: str) -> str:
    """The Python call that makes a recogniser, with further arguments as they are written in Python."""
    audio = manifest["audio"]
    kind = "OnlineRecognizer" if manifest["streaming"] else "OfflineRecognizer"
    function = "from_zipformer_ctc" if manifest["kind"] == "ctc" else "from_transducer"
    rows = [f'{name}="{file}",' for name, file in _parts(manifest, _encoder(manifest)).items()]
    rows += [f"sample_rate={audio['sample_rate']},", f"feature_dim={audio['num_mel_bins']},"]
    rows += [f"{name}={value}," for name, value in more.items()]
    return "\n".join([f"sherpa_onnx.{kind}.{function}(", *(f"    {row}" for row in rows), ")"])


def _python(manifest: Manifest) -> str:
    return f"""
## sherpa-onnx in Python

It needs `python -m pip install numpy sherpa-onnx`.

```python
import wave

import numpy as np
import sherpa_onnx

recognizer = {_call(manifest)}

with wave.open("a.wav") as file:  # 16 bits, one channel
    rate = file.getframerate()
    samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(32768)
stream = recognizer.create_stream()
{_decode(manifest)}
```

Keep the names of the files, and keep them in one folder: an encoder finds its weights by their name beside it.
{_other_size(manifest)}
{_encoder_of_bytes(manifest)}
"""


def _other_size(manifest: Manifest) -> str:
    own = [role for role in ("decoder", "joiner") if any(size.get(role) for size in manifest["sizes"])]
    encoder = f"Another size is another encoder (`{_encoder(manifest, -1)}`)"
    if own:
        return f"{encoder} and {' and '.join(own)}, which manifest.json names."
    return f"{encoder}, and all else stays the same."


def _encoder_of_bytes(manifest: Manifest) -> str:
    if manifest["sizes"][0]["float"]["weights"] is None:
        return ""
    return (
        "Clients that read a model into memory first (assets of Android, sherpa-onnx's WebAssembly build) do not find\n"
        "the weights: export for them with `--standalone`."
    )


def _decode(manifest: Manifest) -> str:
    if not manifest["streaming"]:
        return "stream.accept_waveform(rate, samples)\nrecognizer.decode_stream(stream)\nprint(stream.result.text)"
    tail = manifest["streaming"]["tail_seconds"]
    return f"""for piece in np.array_split(samples, 10):  # as a microphone would give them
    stream.accept_waveform(rate, piece)
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
# Without this silence, the last words are lost: the runtime drops what does not fill a chunk.
stream.accept_waveform(rate, np.zeros(round({tail} * rate), np.float32))
stream.input_finished()
while recognizer.is_ready(stream):
    recognizer.decode_stream(stream)
print(recognizer.get_result(stream))"""


def _command_line(manifest: Manifest) -> str:
    audio = manifest["audio"]
    parts = _parts(manifest, _encoder(manifest))
    options = {"zipformer-ctc-model" if name == "model" else name: file for name, file in parts.items()}
    options |= {"sample-rate": audio["sample_rate"], "feat-dim": audio["num_mel_bins"]}
    rows = [f"--{name}={value}" for name, value in options.items()]
    program = "sherpa-onnx" if manifest["streaming"] else "sherpa-onnx-offline"
    call = " \\\n    ".join([program, *rows, "a.wav"])
    install = "The programs are in the releases of sherpa-onnx, and come with `python -m pip install sherpa-onnx-bin`."
    return f"## sherpa-onnx on the command line\n\n{install}\n\n```sh\n{call}\n```"


def _hotwords(manifest: Manifest) -> str:
    if not manifest.get("bpe_vocab", "bpe.vocab"):
        return "## Hotwords\n\nThe tokens are no pieces of words, so sherpa-onnx cannot make hotwords of them."
    vocab = manifest.get("bpe_vocab") or "bpe.vocab"
    unit = {"decoding_method": '"modified_beam_search"', "modeling_unit": '"bpe"', "bpe_vocab": f'"{vocab}"'}
    call = _call(manifest, **unit, hotwords_file='"hotwords.txt"', hotwords_score="2.0")
    return f"""
## Hotwords

They need beam search and `{vocab}`, without which sherpa-onnx takes no notice of them:

```python
recognizer = {call}
```

`hotwords.txt` has one word or phrase in each line, spelt as the text of this model is. On the command line:
`--decoding-method=modified_beam_search --modeling-unit=bpe --bpe-vocab={vocab} --hotwords-file=hotwords.txt`.
"""


def _graph(manifest: Manifest) -> str:
    words = manifest.get("words") or "words.txt"
    return f"""
## Words by a graph

With `{manifest["graph"]}`, sherpa-onnx searches for the words of a lexicon and a language model (on the command line:
`--ctc-graph`). It gives the numbers of the words in `{words}`:

```python
recognizer = {_call(manifest, ctc_graph=f'"{manifest["graph"]}"')}
stream = recognizer.create_stream()
stream.accept_waveform(rate, samples)
recognizer.decode_stream(stream)
with open("{words}", encoding="utf-8") as file:
    words = [line.rsplit(" ", 1)[0] for line in file]
print(" ".join(words[number] for number in stream.result.words))
```

`run.py` does not search graphs: its text has the tokens.
"""


def _int8(manifest: Manifest) -> str:
    encoder = next(size["int8"]["encoder"] for size in manifest["sizes"] if size["int8"])
    joiner = f" and `{manifest['joiner_int8']}` as the joiner" if manifest["joiner_int8"] else ""
    return f"""
## int8

Take `{encoder}`{joiner}. x86 processors with AVX2 but without VNNI (most of those before 2019) add up products of 8
bits in 16, and large sums saturate, which costs some words. There are two ways out:

- export with `--int8-bits 7`, whose sums fit on every processor;
- exact sums, which are slower: write the line `SessionConfig.session.x64quantprecision=1` to a file, and give
  sherpa-onnx `provider="cpu:FILE"` (`--provider=cpu:FILE`).

ARM processors do not saturate.
"""


def _program(manifest: Manifest) -> str:
    size = manifest["sizes"][-1]["id"]
    stream = f"\npython run.py transcribe --size {size} --stream a.wav" if manifest["streaming"] else ""
    int8 = "\npython run.py choose --int8 --max-rtf 0.05       # measures first, and may choose int8"
    int8 = int8 if any(size["int8"] for size in manifest["sizes"]) else ""
    # A limit that every size keeps in float, so that the example finds one.
    most = math.ceil(max(size["float"]["bytes"] for size in manifest["sizes"]) / 1e6)
    return f"""
## run.py

It needs Python 3.9, numpy and onnxruntime 1.15 or newer, and nothing else; `--help` lists all options.

```sh
python run.py transcribe --size {size} a.wav{stream}
python run.py profile --json phone.json a.wav    # load time, speed, memory and bytes of every size on this machine
python run.py choose --profile phone.json --max-rtf 0.05 --max-mb {most}{int8}
python run.py verify                             # are all files as they were written, and do all sizes run?
```

RTF is seconds of computing per second of audio; memory is what the models add to that of Python and its libraries.
`choose` compares the sizes whose WER on dev was measured; `--set` names another set, such as that of one language.
`--max-memory-mb` and `--max-latency-ms` are further limits.
"""


def _switching(manifest: Manifest) -> str:
    first, last = manifest["sizes"][0], manifest["sizes"][-1]
    return f"""
## Another size at run time

Only the encoder is opened; features, decoder and joiner stay open:

```python
from pathlib import Path

import run

recognizer = run.Recognizer(run.open_bundle(Path(".")), "{first["id"]}")
samples = run.read_wav(Path("a.wav"), recognizer.rate)
print(recognizer.transcribe(samples).text)
recognizer.switch("{last["id"]}")
print(recognizer.transcribe(samples).text)
```

In sherpa-onnx, make a second recogniser with the other encoder, and let go of the first one.
"""


def _browser() -> str:
    return f"""
## In a browser

`{PAGE}` recognises speech in a browser, at a size that you switch, and measures all sizes there. Any web server will
do; this one comes with Python:

```sh
python3 -m http.server 8000    # in this folder; then open http://localhost:8000
```

Browsers give the microphone to pages of https and of localhost only; files can always be chosen.
"""


def _files(manifest: Manifest) -> str:
    kinds = {
        manifest["features"]: "from samples to log-mel features, for clients that are not sherpa-onnx",
        manifest["tokens"]: "token and id in each line",
        manifest["decoder"]: "the network over the last tokens, of all sizes without their own",
        manifest["joiner"]: "scores of tokens, of all sizes without their own",
        "manifest.json": "sizes, files, checksums, WER; slimasr's docs/bundle.md describes it",
        PAGE: "a page that runs all sizes in a browser",
    }
    known = {*manifest["files"], "manifest.json"}
    rows = [f"- `{name}`: {text}" for name, text in kinds.items() if name in known]
    return "## Files\n\n" + "\n".join(rows)
