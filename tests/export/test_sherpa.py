"""Exported CTC models in sherpa-onnx: the same phonemes and words as here, of recorded speech."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from slimasr.config.search import DecodingConfig, GraphDecodingConfig
from slimasr.data.batches.batch import single
from slimasr.data.corpora import CORPORA
from slimasr.data.features.frames import extract_frames
from slimasr.data.features.shards import make_extractor
from slimasr.data.graphs.dictionary import mark_word_ends, read_dictionary
from slimasr.data.graphs.hlg import build_hlg, word_table
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.data.graphs.ngrams import train_arpa
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.decoding.recognize import Recognition, encoder_of, phoneme_recognition
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.words import word_search
from slimasr.export.writer import BundleOptions, encoder_file, write_graphs
from slimasr.models.build import build_model
from slimasr.supernet.subnet import Subnet
from tests.tiny import CTC_MODEL, encoder_config

for name in ("kaldi_decoder", "kaldilm", "kaldingram", "onnxscript", "onnxruntime", "sherpa_onnx"):
    pytest.importorskip(name)

RATE = 16000


def theirs(model: Path, tokens: Path, graph: str, files: list[Path]) -> list[list[str]] | list[list[int]]:
    script = Path(__file__).with_name("sherpa_ctc.py")
    command = [sys.executable, str(script), str(model), str(tokens), graph, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_sherpa_onnx_finds_the_same(corpus: Callable[[str], Path], tmp_path: Path) -> None:
    an4 = corpus("an4")
    sets = CORPORA["an4"].list_utterances(an4, ["train", "test"], {})
    files = []
    for utterance in sets["test"][:8]:
        samples, _ = soundfile.read(utterance.audio, dtype="float32")
        files.append(tmp_path / f"{utterance.id}.wav")
        soundfile.write(files[-1], samples, RATE, subtype="FLOAT")

    lexicon = Lexicon(mark_word_ends(read_dictionary(an4 / "etc" / "an4.dic")))
    tokenizer = PhonemeTokenizer.of(lexicon)
    table = word_table(lexicon.words)
    train_arpa((utterance.text for utterance in sets["train"]), 3, lexicon.words, tmp_path / "lm.arpa")
    ids = {label: number for number, label in enumerate(tokenizer.tokens) if number > 2}
    graph = SearchGraph(build_hlg(lexicon, ids, tmp_path / "lm.arpa", table), table, "")
    assert graph.fst.write(str(tmp_path / "HLG.fst"))
    tokenizer.write(tmp_path / "lang")

    features = []
    extractor = make_extractor(80, RATE)
    for file in files:
        samples, _ = soundfile.read(file, dtype="float32")
        features.append(torch.from_numpy(extract_frames(extractor, samples[np.newaxis], RATE)))
    torch.manual_seed(0)
    config = CTC_MODEL.model_copy(update={"num_mel_bins": 80, "encoder": encoder_config(num_layers=1)})
    model = build_model(config, None, tokenizer.vocab_size, (1.0,)).eval()
    with torch.no_grad():
        everything = torch.cat(features)
        model.set_feature_stats(everything.mean(dim=0), everything.std(dim=0))
        # Scores of labels have equal means and change from frame to frame.
        scores = torch.cat([model.ctc_logits(model.encode(*single_batch(x)).out)[0] for x in features])
        model.output.weight.mul_((4.0 / scores.std(dim=0)).unsqueeze(1))
        model.output.bias.copy_((model.output.bias - scores.mean(dim=0)) * 4.0 / scores.std(dim=0))
    (tmp_path / "onnx").mkdir()
    write_graphs(model, tmp_path / "onnx", [Subnet()], BundleOptions(standalone=True))
    file = tmp_path / "onnx" / encoder_file(Subnet())

    by_graph = DecodingConfig(kind="graph", graph=GraphDecodingConfig(acoustic_scale=1.0, prior_scale=0.0))
    words = Recognition(word_search(model, tokenizer, by_graph, graph=graph))
    phonemes = phoneme_recognition(model, tokenizer)
    encode = encoder_of(model, None)
    our_words = [words.texts(single(x), encode)[0].split() for x in features]
    our_phonemes = [phonemes.texts(single(x), encode)[0].split() for x in features]
    tokens = tmp_path / "lang" / "tokens.txt"
    found = theirs(file, tokens, str(tmp_path / "HLG.fst"), files)
    assert [[table[number] for number in numbers] for numbers in found] == our_words  # type: ignore[index]
    assert [
        [token for token in row if not token.startswith("<")]
        for row in theirs(file, tokens, "", files)  # type: ignore[union-attr]
    ] == our_phonemes
    assert sum(map(len, our_words)) > 20 and sum(map(len, our_phonemes)) > 100


def single_batch(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.unsqueeze(0), torch.tensor([len(x)])
