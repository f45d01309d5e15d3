"""Milliseconds an utterance of greedy search and of graph decoding, alone and from samples to words, on one thread.

The same CTC model runs on AN4's test set: ours in torch, sherpa-onnx on the file of our ONNX export with the same
graph, which has AN4's own dictionary and a trigram model of the training transcripts. Scales are 1 and there is no
label prior, as sherpa-onnx knows neither.

    graph.py                      AN4's preset as a CTC model, with random weights that emit as often as trained ones
    graph.py EXP [SUBNET]         a trained model of phonemes, and the graph that it was decoded with
    graph.py --corpus-dir DIR     where AN4 is; default: $SLIMASR_CORPORA
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import report_figures
from decode import PRESET, SAMPLING_RATE, Recording, read_set, to_batch
from torch import Tensor

from slimasr.config.load import load_config
from slimasr.config.model import CtcConfig
from slimasr.config.search import DecodingConfig
from slimasr.data.corpora import CORPORA, find_corpus
from slimasr.data.graphs.dictionary import mark_word_ends, read_dictionary
from slimasr.data.graphs.graph import Graph, load_graph
from slimasr.data.graphs.hlg import build_hlg, word_table
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.data.graphs.ngrams import train_arpa
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.data.tokens.tokenizer import TOKENS_FILE, Tokenizer
from slimasr.decoding.recognize import Recognition, encoder_of, phoneme_recognition
from slimasr.decoding.searches.graph import SearchGraph
from slimasr.decoding.searches.word_search import WordSearch
from slimasr.decoding.searches.words import word_search
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.subnets import find_subnet
from slimasr.export.packages import needed
from slimasr.export.writer import BundleOptions, encoder_file, write_graphs
from slimasr.models.build import build_model
from slimasr.models.ctc import CtcModel
from slimasr.progress import silent
from slimasr.results.graph import read_graph_file
from slimasr.supernet.subnet import Subnet

REPEATS = 3
LABELS_PER_FRAME = 0.25
"""Share of frames at which a trained model emits a phoneme."""
NEEDED = ("kaldi_decoder", "kaldifst", "kaldilm", "kaldingram", "sherpa_onnx", "onnx", "onnxscript")


@dataclass(frozen=True)
class Side:
    """A model, its tokenizer and its graph.

    Attributes:
        model: stand-alone, in evaluation mode.
        graph: where the graph is, and its words.
    """

    model: CtcModel
    tokenizer: Tokenizer
    graph: Graph


def an4_graph(corpus_dir: Path, folder: Path) -> tuple[PhonemeTokenizer, Graph]:
    """Build tokenizer and graph of AN4's dictionary and training transcripts."""
    lexicon = Lexicon(mark_word_ends(read_dictionary(corpus_dir / "etc" / "an4.dic")))
    tokenizer = PhonemeTokenizer.of(lexicon)
    table = word_table(lexicon.words)
    sets = CORPORA["an4"].list_utterances(corpus_dir, ["train"], {})
    arpa = folder / "lm.arpa"
    train_arpa((utterance.text for utterance in sets["train"]), 3, lexicon.words, arpa)
    ids = {label: number for number, label in enumerate(tokenizer.tokens) if number > tokenizer.unk_id}
    path = folder / "HLG.fst"
    build_hlg(lexicon, ids, arpa, table).write(str(path))
    return tokenizer, Graph(path, table, "an4")


@torch.no_grad()
def untrained_model(vocab_size: int, recordings: Sequence[Recording]) -> CtcModel:
    """Build AN4's preset as a CTC model with random weights whose frames emit as often as those of a trained one."""
    preset = load_config(PRESET).model
    config = CtcConfig(num_mel_bins=preset.num_mel_bins, frontend=preset.frontend, encoder=preset.encoder)
    torch.manual_seed(0)
    model = build_model(config, None, vocab_size, (1.0,)).eval()
    assert isinstance(model, CtcModel)
    batch = to_batch(recordings[:8], config.num_mel_bins)
    # Features are normalised by the statistics of the model, which training would set.
    model.set_feature_stats(batch.x.mean(dim=(0, 1)), batch.x.std(dim=(0, 1)))
    encoded = model.encode(batch.x, batch.x_lens)
    inside = torch.arange(encoded.out.shape[1]) < encoded.lens.unsqueeze(1)
    scores = model.ctc_logits(encoded.out)[inside]
    # Of all labels equal on average, and as far apart as after training.
    model.output.weight.mul_((5.0 / scores.std(dim=0)).unsqueeze(1))
    model.output.bias.copy_((model.output.bias - scores.mean(dim=0)) * 5.0 / scores.std(dim=0))
    scores = model.ctc_logits(encoded.out)[inside]
    lead = scores[:, 1:].amax(dim=1) - scores[:, 0]
    # Blank is best at all frames where no other label leads by more.
    model.output.bias[0] += lead.quantile(1.0 - LABELS_PER_FRAME)
    return model


def trained(exp: Path, subnet: str) -> Side:
    """Open a subnet of an experiment, and the graph that it was decoded with."""
    experiment = Experiment.open(exp)
    model = experiment.model.extract(find_subnet(experiment, subnet)).eval()
    noted = read_graph_file(exp).folder
    if not isinstance(model, CtcModel) or noted is None:
        raise SystemExit(f"graph: {exp} holds no CTC model that was decoded with a graph")
    return Side(model, experiment.tokenizer, load_graph(Path(noted), experiment.tokenizer))


def seconds_of(call: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Return the median processor seconds of a call, after one that does not count, and its result."""
    found = call()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times), found


def our_searches(side: Side) -> dict[str, WordSearch]:
    """Return greedy search and graph decoding."""
    graph = SearchGraph.open(side.graph)
    by_graph = DecodingConfig(kind="graph")
    return {
        "greedy": phoneme_recognition(side.model, side.tokenizer).search,
        "graph": word_search(side.model, side.tokenizer, by_graph, graph=graph),
    }


def our_texts(side: Side, search: WordSearch, recordings: Sequence[Recording]) -> list[str]:
    """Recognise utterances from their samples, one after the other."""
    recognition = Recognition(search)
    encode = encoder_of(side.model, None)
    bins = side.model.config.num_mel_bins
    return [recognition.texts(to_batch([recording], bins), encode)[0] for recording in recordings]


def searched(search: WordSearch, outputs: Sequence[Tensor]) -> list[str]:
    """Search (1, T, C) encoder outputs one after the other."""
    return [search.texts(out, torch.tensor([out.shape[1]]))[0] for out in outputs]


def export(side: Side, folder: Path) -> dict[str, str]:
    """Write the files that sherpa-onnx reads, and return its arguments."""
    write_graphs(side.model, folder, [Subnet()], BundleOptions(standalone=True))
    tokens = folder / TOKENS_FILE
    tokens.write_text("".join(f"{token} {number}\n" for number, token in enumerate(side.tokenizer.tokens)))
    return {"model": str(folder / encoder_file(Subnet())), "tokens": str(tokens)}


def recognizer_of(side: Side, kind: str, exported: Mapping[str, str]) -> Any:
    """Open the exported model in sherpa-onnx."""
    return needed("sherpa_onnx").OfflineRecognizer.from_zipformer_ctc(
        **exported,
        ctc_graph=str(side.graph.path) if kind == "graph" else "",
        num_threads=1,
        feature_dim=side.model.config.num_mel_bins,
    )


def their_texts(recognizer: Any, side: Side, kind: str, recordings: Sequence[Recording]) -> list[str]:
    """Recognise utterances with sherpa-onnx, one after the other."""
    texts = []
    for recording in recordings:
        stream = recognizer.create_stream()
        stream.accept_waveform(SAMPLING_RATE, recording.samples)
        recognizer.decode_stream(stream)
        result = stream.result
        found = [side.graph.words[word] for word in result.words] if kind == "graph" else result.tokens
        # Greedy search here leaves out what is no phoneme.
        texts.append(" ".join(token for token in found if not token.startswith("<")))
    return texts


def measure(title: str, side: Side, recordings: Sequence[Recording], folder: Path) -> None:
    """Time both searches, ours and sherpa-onnx's, one after the other, and print the results."""
    audio = sum(len(recording.samples) for recording in recordings) / SAMPLING_RATE
    bins = side.model.config.num_mel_bins
    with torch.no_grad():
        outputs = [side.model.encode(b.x, b.x_lens).out for b in (to_batch([one], bins) for one in recordings)]
    exported = export(side, folder / "onnx")
    for kind, search in our_searches(side).items():
        alone, _ = seconds_of(partial(searched, search, outputs))
        ours, our_found = seconds_of(partial(our_texts, side, search, recordings))
        recognizer = recognizer_of(side, kind, exported)
        theirs, their_found = seconds_of(partial(their_texts, recognizer, side, kind, recordings))
        report_figures(
            f"{title}, {kind}, milliseconds an utterance",
            search=1000 * alone / len(recordings),
            ours=1000 * ours / len(recordings),
            sherpa_onnx=1000 * theirs / len(recordings),
            rtf_search=alone / audio,
            rtf=ours / audio,
            rtf_sherpa_onnx=theirs / audio,
            equal_texts=sum(a == b for a, b in zip(our_found, their_found, strict=True)) / len(recordings),
        )


def main() -> None:
    """Measure the model named on the command line, or one with random weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", nargs="?", type=Path, help="Experiment folder.")
    parser.add_argument("subnet", nargs="?", default="max", help="Subnet of it.")
    parser.add_argument("--corpus-dir", type=Path, metavar="DIR", help="Folder of AN4.")
    arguments = parser.parse_args()
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        print(f"graph: skipped, {', '.join(absent)} is not installed: pip install 'slimasr[export,graph]'")
        return
    try:
        an4 = find_corpus(CORPORA["an4"], arguments.corpus_dir, Path("data/corpora"), ["train", "test"], {}, silent)
    except UserError as error:
        print(f"graph: skipped, {error}")
        return
    torch.set_num_threads(1)
    title, recordings = read_set(arguments.corpus_dir)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.exp is None:
            tokenizer, graph = an4_graph(an4, folder)
            side = Side(untrained_model(tokenizer.vocab_size, recordings), tokenizer, graph)
        else:
            side = trained(arguments.exp, arguments.subnet)
        measure(title, side, recordings, folder)


if __name__ == "__main__":
    main()
