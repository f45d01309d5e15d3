"""Stage 3's second half: make the search graph of a recipe and measure its language model on the dev and test sets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from slimasr.config.schema import Config
from slimasr.data.corpora.named_files import named_path
from slimasr.data.files import DataFolder, read_cuts
from slimasr.data.graphs.arpa import count_ngrams, perplexity, restrict_arpa, vocabulary
from slimasr.data.graphs.graph import (
    GRAPH_FILE,
    LANGUAGE_MODEL_FILE,
    RECORD_FILE,
    WORDS_FILE,
    GraphRecord,
    SetReport,
    graph_digest,
    words_text,
)
from slimasr.data.graphs.hlg import build_hlg, import_graph_library, word_table
from slimasr.data.graphs.lexicon import Lexicon
from slimasr.data.graphs.lexicon_source import piece_lexicon
from slimasr.data.graphs.lm_texts import language_model_texts, text_files
from slimasr.data.graphs.ngrams import prune_arpa, train_arpa
from slimasr.data.identity.digests import digest_of, file_digest
from slimasr.data.identity.manifest_record import STAGE_1, manifest_identity
from slimasr.data.manifests.stage import set_names
from slimasr.data.sets import graph_folder, lang_of
from slimasr.data.tokens.load import load_tokenizer
from slimasr.data.tokens.phonemes import PhonemeTokenizer
from slimasr.data.tokens.record import check_tokenizer
from slimasr.data.tokens.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.files import replacing, write_atomic
from slimasr.locking import Lock, folder_lock, refuse_while_locked

COMMAND = "slimasr-graph"


def make_graph(config: Config, data_dir: Path) -> GraphRecord:
    """Write ``graph_<kind>_<size>/`` for the tokenizer of stage 3, unless it is there and belongs to the same inputs.

    Raises:
        UserError: the tokenizer is missing or out of date, the lexicon or language model is missing, damaged or of
            other words, the extra ``graph`` is not installed, or another process makes this graph.
    """
    for library in ("kaldifst", "kaldilm"):
        import_graph_library(library)
    folder = DataFolder(data_dir)
    target = graph_folder(config, folder)
    refuse_while_locked(folder.lock("manifests"), COMMAND)
    refuse_while_locked(folder.lock(lang_of(config, folder).name), COMMAND)
    with folder_lock(folder.lock(target.name), COMMAND) as lock:
        tokenizer = load_tokenizer(lang_of(config, folder))
        check_tokenizer(config, folder, tokenizer.fingerprint)
        made_from = _made_from(config, folder, tokenizer)
        kept = _kept(target, made_from)
        return _write_graph(config, folder, tokenizer, made_from, lock) if kept is None else kept


def _made_from(config: Config, folder: DataFolder, tokenizer: Tokenizer) -> str:
    """Digest of everything on which the graph and its record depend."""
    model = config.language_model
    files = [] if model.arpa is None else [named_path(model.arpa, folder)]
    files += text_files(config, folder)
    digests = [file_digest(path) if path.is_file() else "" for path in files]
    sets = {name: manifest_identity(folder, name).transcripts for name in set_names(config.data)}
    # What the tokenizer was trained on, and how many tokens it has, is part of its fingerprint.
    units = config.tokenizer.model_dump(mode="json", exclude={"sets", "balance", "name", "allow_fewer"})
    settings = [model.model_dump(mode="json"), units, config.data.train]
    return digest_of([tokenizer.fingerprint, settings, digests, sets])


def _kept(target: Path, made_from: str) -> GraphRecord | None:
    """The record of a graph that is complete and was made from the same."""
    if not (target / RECORD_FILE).is_file() or not (target / GRAPH_FILE).is_file():
        return None
    try:
        record = GraphRecord.read(target)
    except UserError:
        # Damaged; its message asks for this stage.
        return None
    complete = record.made_from == made_from and record.digest == graph_digest(target / GRAPH_FILE)
    return record if complete else None


def _write_graph(config: Config, folder: DataFolder, tokenizer: Tokenizer, made_from: str, lock: Lock) -> GraphRecord:
    target = graph_folder(config, folder)
    own = tokenizer.lexicon if isinstance(tokenizer, PhonemeTokenizer) else None
    full = own or piece_lexicon(config, folder, tokenizer)
    target.mkdir(parents=True, exist_ok=True)
    # A record beside files of another graph would be wrong.
    (target / RECORD_FILE).unlink(missing_ok=True)
    model = _write_language_model(config, folder, full, target / LANGUAGE_MODEL_FILE)
    sets = {name: _report(folder, name, target, full, model.known) for name in _evaluated(config)}
    table = word_table(model.lexicon.words)
    hlg = build_hlg(
        model.lexicon, {label: i for i, label in enumerate(tokenizer.tokens)}, target / LANGUAGE_MODEL_FILE, table
    )
    lock.verify()
    model.lexicon.write(target)
    write_atomic(target / WORDS_FILE, words_text(table))
    with replacing(target / GRAPH_FILE) as temporary:
        hlg.write(str(temporary))
    record = GraphRecord(
        tokenizer=tokenizer.fingerprint,
        made_from=made_from,
        digest=graph_digest(target / GRAPH_FILE),
        num_words=len(model.lexicon.words),
        num_pronunciations=sum(1 for _ in model.lexicon.entries()),
        num_labels=len(model.lexicon.labels),
        ngrams=model.ngrams,
        states=hlg.num_states,
        arcs=sum(hlg.num_arcs(state) for state in range(hlg.num_states)),
        sets=sets,
    )
    # Written last: a graph with a record is complete.
    record.write(target)
    return record


@dataclass(frozen=True)
class _LanguageModel:
    """The written language model: the lexicon of its words, the words that it has seen, its numbers of n-grams."""

    lexicon: Lexicon
    known: frozenset[str]
    ngrams: tuple[int, ...]


def _write_language_model(config: Config, folder: DataFolder, lexicon: Lexicon, target: Path) -> _LanguageModel:
    """Train the model, or take the part of a given one that the lexicon covers, and prune it to its size."""
    settings = config.language_model
    if settings.arpa is None:
        known = train_arpa(language_model_texts(config, folder), settings.order, lexicon.words, target)
    else:
        known = _common_words(named_path(settings.arpa, folder), lexicon)
        lexicon = lexicon.restricted(known)
        restrict_arpa(named_path(settings.arpa, folder), known, target)
    if sum(count_ngrams(target)) > settings.max_ngrams:
        prune_arpa(target, settings.max_ngrams)
    return _LanguageModel(lexicon, known, count_ngrams(target))


def _common_words(arpa: Path, lexicon: Lexicon) -> frozenset[str]:
    """The words of a given language model that have a pronunciation."""
    words = vocabulary(arpa)
    common = words & set(lexicon.words)
    if common:
        return common
    message = f"language_model.arpa: {arpa}: has none of the {len(lexicon.words)} words of the lexicon"
    for case, change in (("upper", str.upper), ("lower", str.lower)):
        if {change(word) for word in words} & set(lexicon.words):
            raise UserError(f"{message}, but would have some in {case} case")
    raise UserError(f"{message}; give the one of this language")


def _evaluated(config: Config) -> list[str]:
    return list(dict.fromkeys([config.data.dev, *config.data.test]))


def _report(folder: DataFolder, name: str, target: Path, lexicon: Lexicon, known: frozenset[str]) -> SetReport:
    texts = [cut.supervisions[0].text for cut in read_cuts(folder.raw_cuts(name), STAGE_1)]
    found = perplexity(target / LANGUAGE_MODEL_FILE, texts, known)
    missing = Counter(word for text in texts for word in lexicon.missing(text))
    ranked = sorted(missing.items(), key=lambda item: (-item[1], item[0]))
    return SetReport(found.words, found.value, found.sentences, found.unknown, dict(ranked))
