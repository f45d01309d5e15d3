"""The search graph of a lexicon and an n-gram model: H o L o G as a finite-state transducer from frames to words.

H removes repeated labels and blanks (CTC), L makes words of labels, G weights words. Weights are negative natural
logarithms of probabilities. The graph's input symbols are token ids + 1, as device runtimes expect them, since 0 is
epsilon; its output symbols are the numbers of ``words.txt``. (M. Mohri, F. Pereira, M. Riley, 2002; for CTC, Y. Miao,
M. Gowayyed, F. Metze, 2015.)
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from slimasr.data.graphs.arpa import SENTENCE_END, SENTENCE_START
from slimasr.data.graphs.dictionary import Pronunciation
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.errors import UserError

EPSILON = "<eps>"
BACKOFF = "#0"
"""Marks back-off to shorter histories on the input of G, so that it is deterministic."""

WEIGHT_STEP = 2.0**-14
"""Weights that differ by less are taken for equal; Kaldi's 2^-10 would add up to visible errors in long sentences."""


def word_table(words: Iterable[str]) -> tuple[str, ...]:
    """Number -> word: epsilon, the words, and the symbols that programs expect behind them.

    Raises:
        UserError: a word is one of these symbols.
    """
    listed = tuple(words)
    for symbol in (EPSILON, BACKOFF, SENTENCE_START, SENTENCE_END):
        if symbol in listed:
            raise UserError(f"{symbol} stands for something else in search graphs and cannot be a word; rename it")
    return (EPSILON, *listed, BACKOFF, SENTENCE_START, SENTENCE_END)


def build_hlg(lexicon: Lexicon, ids: Mapping[str, int], arpa: Path, table: Sequence[str]) -> Any:
    """Compose the graph of a lexicon and a language model.

    Args:
        lexicon: words with their pronunciations; all of them are in ``table``.
        ids: label -> token id.
        arpa: the language model, of words in ``table``.
        table: number -> word.

    Returns:
        A ``kaldifst.StdVectorFst``.

    Raises:
        UserError: the extra ``graph`` is not installed, or the language model is refused.
    """
    fst = import_graph_library("kaldifst")
    numbers = {word: number for number, word in enumerate(table)}
    first_mark = max(ids.values()) + 2
    words = _lexicon_fst(fst, lexicon, ids, numbers, first_mark)
    fst.arcsort(words, sort_type="olabel")
    graph = fst.compose(words, _grammar_fst(fst, arpa, table))
    # In the tropical semiring, so that the best path keeps its weight.
    fst.determinize_star(graph, delta=WEIGHT_STEP)
    fst.minimize_encoded(graph, delta=WEIGHT_STEP)
    fst.arcsort(graph, sort_type="ilabel")
    used = sorted(ids[label] + 1 for label in lexicon.labels)
    marks = range(first_mark, first_mark + 1 + max(_marks_of(lexicon)))
    return fst.compose(ctc_topology(used, marks), graph)


def ctc_topology(labels: Sequence[int], marks: Sequence[int] = ()) -> Any:
    """The transducer that removes repeated labels and then blanks; blank is symbol 1, token 0.

    Args:
        labels: the symbols of all other tokens.
        marks: output symbols that may stand anywhere and have no frame.
    """
    fst = import_graph_library("kaldifst")
    topology = fst.StdVectorFst()
    states = [topology.add_state() for _ in range(len(labels) + 1)]
    topology.start = states[0]
    for state in states:
        topology.set_final(state, 0.0)
        topology.add_arc(state, fst.StdArc(1, 0, 0.0, states[0]))
        for label, target in zip(labels, states[1:], strict=True):
            # The same label again, without a blank between, is a repetition.
            output = 0 if target == state else label
            topology.add_arc(state, fst.StdArc(label, output, 0.0, target))
        for mark in marks:
            topology.add_arc(state, fst.StdArc(0, mark, 0.0, state))
    fst.arcsort(topology, sort_type="olabel")
    return topology


def import_graph_library(name: str) -> Any:
    """Import ``kaldifst`` or ``kaldi_decoder``.

    Raises:
        UserError: the extra ``graph`` is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed: pip install 'slimasr[graph]'") from None


def homophone_marks(pronunciations: Sequence[Pronunciation]) -> list[int]:
    """A number for each pronunciation, 0 = none, so that with it none equals another or is the beginning of one."""
    beginnings = {item[:length] for item in pronunciations for length in range(1, len(item))}
    frequencies = Counter(pronunciations)
    used: Counter[Pronunciation] = Counter()
    marks = []
    for item in pronunciations:
        ambiguous = frequencies[item] > 1 or item in beginnings
        used[item] += ambiguous
        marks.append(used[item])
    return marks


def _marks_of(lexicon: Lexicon) -> list[int]:
    return homophone_marks([pronunciation for _, pronunciation in lexicon.entries()])


def _lexicon_fst(
    fst: Any, lexicon: Lexicon, ids: Mapping[str, int], numbers: Mapping[str, int], first_mark: int
) -> Any:
    """L: label symbols to words, with marks that tell homophones apart; state 0 lies between words."""
    transducer = fst.StdVectorFst()
    transducer.start = transducer.add_state()
    transducer.set_final(0, 0.0)
    # Back-off passes through.
    transducer.add_arc(0, fst.StdArc(first_mark, numbers[BACKOFF], 0.0, 0))
    entries = list(lexicon.entries())
    for (word, pronunciation), mark in zip(entries, _marks_of(lexicon), strict=True):
        symbols = [ids[label] + 1 for label in pronunciation] + ([first_mark + mark] if mark else [])
        state = 0
        for place, symbol in enumerate(symbols, start=1):
            target = 0 if place == len(symbols) else transducer.add_state()
            transducer.add_arc(state, fst.StdArc(symbol, numbers[word] if place == 1 else 0, 0.0, target))
            state = target
    return transducer


def _grammar_fst(fst: Any, arpa: Path, table: Sequence[str]) -> Any:
    """G: the language model as an acceptor of words.

    kaldilm ends the process when it refuses a model and writes a log to stderr, so it runs in a process of its own.
    """
    import_graph_library("kaldilm")
    with tempfile.TemporaryDirectory() as folder:
        words, made = Path(folder, "words.txt"), Path(folder, "G.fst")
        words.write_text("".join(f"{word} {number}\n" for number, word in enumerate(table)), encoding="utf-8")
        options = ["--disambig-symbol", BACKOFF, "--read-symbol-table", str(words), "--max-arpa-warnings", "0"]
        command = [sys.executable, "-m", "kaldilm", *options, str(arpa), str(made)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        if done.returncode != 0 or not made.is_file():
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"{arpa}: kaldilm makes no graph of this language model: {reason}")
        grammar = fst.StdVectorFst.read(str(made))
    fst.arcsort(grammar, sort_type="ilabel")
    return grammar
