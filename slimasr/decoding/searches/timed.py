"""Text with the times of its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean

from slimasr.decoding.searches.label_search import Hypothesis

CHARACTER_SECONDS = 0.08
"""A spoken character lasts about so long: people read about twelve of them in a second."""

DECIMALS = 3
"""Times are given to a millisecond."""


@dataclass(frozen=True)
class Word:
    """A recognised word.

    A search knows when tokens are emitted, not how long words last. A word starts with the encoder frame that emits its
    first token. It ends `CHARACTER_SECONDS` for each character of its last token after the frame that emits that one,
    or before, where the next word starts or the audio ends.

    Attributes:
        word: the word.
        start: in seconds from the start of the recording.
        end: likewise; not before ``start``, and not after the start of the next word.
        confidence: the mean posterior of its tokens, in [0, 1] (`slimasr.decoding.searches.confidence`).
    """

    word: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """What has been recognised of a recording.

    Attributes:
        text: the text.
        words: its words, in order.
        seconds: length of the recording.
        tokens: ids of the tokens of the best path.
        times: for each token, the start of the encoder frame that emitted it, in seconds from the start.
    """

    text: str = ""
    words: tuple[Word, ...] = ()
    seconds: float = 0.0
    tokens: tuple[int, ...] = ()
    times: tuple[float, ...] = ()

    def __add__(self, other: Transcript) -> Transcript:
        """Append what was recognised after this in the same recording; its times count from the recording's start."""
        return Transcript(
            " ".join(text for text in (self.text, other.text) if text),
            self.words + other.words,
            self.seconds + other.seconds,
            self.tokens + other.tokens,
            self.times + other.times,
        )


@dataclass(frozen=True)
class WordSpan:
    """A word on the best path, and its tokens: from ``first`` to the one before ``after``.

    The last token has so many ``characters`` of the word; a phoneme counts as one.
    """

    word: str
    first: int
    after: int
    characters: int = 1


@dataclass(frozen=True)
class BestPath:
    """What a search has found in an utterance.

    Attributes:
        text: the words, with spaces between them.
        labels: tokens and the encoder frames that emit them.
        posteriors: of each token at its frame.
        words: the words and their tokens. Tokens without a character of a word belong to none.
        complete: False = the search has reached no end of a graph, and the path is empty.
    """

    text: str = ""
    labels: Hypothesis = field(default_factory=Hypothesis)
    posteriors: tuple[float, ...] = ()
    words: tuple[WordSpan, ...] = ()
    complete: bool = True

    def part(self, first: float, after: float) -> BestPath:
        """Return the words that start within some frames, with their tokens.

        Args:
            first: the first of these frames.
            after: the frame after the last one.
        """
        frames = self.labels.frames
        spans = [span for span in self.words if first <= frames[span.first] < after]
        chosen = [place for span in spans for place in range(span.first, span.after)]
        labels = Hypothesis(tuple(self.labels.tokens[place] for place in chosen), tuple(frames[p] for p in chosen))
        moved: list[WordSpan] = []
        for span in spans:
            start = moved[-1].after if moved else 0
            moved.append(replace(span, first=start, after=start + span.after - span.first))
        text = " ".join(span.word for span in spans)
        return BestPath(text, labels, tuple(self.posteriors[place] for place in chosen), tuple(moved), self.complete)


def transcript_of(
    path: BestPath, start: float, seconds: float, frame_seconds: float, before: float | None = None
) -> Transcript:
    """Give the words of a piece of a recording their times.

    Args:
        path: the best path through the piece.
        start: of the piece, in seconds from the start of the recording.
        seconds: length of the piece; nothing lies after it, although short audio is padded.
        frame_seconds: seconds between two encoder frames.
        before: the path is also that of audio around the piece, so many seconds of which lie in front of it; words that
            start there belong to other pieces. None = it is that of the piece alone.
    """
    if before is not None:
        # Whole numbers, if pieces are cut between frames.
        path = path.part(round(before / frame_seconds, DECIMALS), round((before + seconds) / frame_seconds, DECIMALS))
    first = start - (before or 0.0)
    times = tuple(min(first + frame * frame_seconds, start + seconds) for frame in path.labels.frames)
    starts = [times[span.first] for span in path.words]
    limits = [*starts[1:], start + seconds] if starts else []
    words = tuple(
        Word(
            span.word,
            round(times[span.first], DECIMALS),
            round(min(limit, times[span.after - 1] + frame_seconds + CHARACTER_SECONDS * span.characters), DECIMALS),
            fmean(path.posteriors[span.first : span.after]),
        )
        for span, limit in zip(path.words, limits, strict=True)
    )
    rounded = tuple(round(time, DECIMALS) for time in times)
    return Transcript(path.text, words, seconds, path.labels.tokens, rounded)


def spelt_words(pieces: Sequence[str], mark: str = "\u2581") -> tuple[WordSpan, ...]:
    """Find the words that tokens spell.

    Args:
        pieces: the text of each token.
        mark: stands for a space in it (SentencePiece's by default).
    """
    # The owner of every character, so that a token may hold the end of one word and the start of the next one.
    characters = [(character, owner) for owner, piece in enumerate(pieces) for character in piece.replace(mark, " ")]
    bounds = [-1, *(place for place, (character, _) in enumerate(characters) if character == " "), len(characters)]
    words = (characters[before + 1 : after] for before, after in pairwise(bounds))
    return tuple(_spelt(word) for word in words if word)


def _spelt(characters: Sequence[tuple[str, int]]) -> WordSpan:
    """Make a word of its characters and the tokens that hold them."""
    owners = [owner for _, owner in characters]
    word = "".join(character for character, _ in characters)
    return WordSpan(word, owners[0], owners[-1] + 1, owners.count(owners[-1]))


def pronounced_words(
    words: Sequence[str], tokens: Sequence[int], pronunciations: Sequence[Sequence[Sequence[int]]]
) -> tuple[WordSpan, ...]:
    """Find the tokens of each word by its pronunciations.

    Args:
        words: the words.
        tokens: the tokens of all words, one word after the other.
        pronunciations: for each word, the token sequences that it may have.

    Raises:
        ValueError: the tokens are not such pronunciations of the words.
    """
    # For every word, each place where it may end, and the place where it then starts.
    starts: list[dict[int, int]] = []
    ends = [0]
    for variants in pronunciations:
        found: dict[int, int] = {}
        for start in ends:
            for variant in variants:
                if tuple(tokens[start : start + len(variant)]) == tuple(variant):
                    found.setdefault(start + len(variant), start)
        starts.append(found)
        ends = list(found)
    after = len(tokens)
    if after not in ends:
        raise ValueError("the tokens are not pronunciations of the words")
    spans = []
    for word, found in zip(reversed(words), reversed(starts), strict=True):
        spans.append(WordSpan(word, found[after], after))
        after = found[after]
    return tuple(reversed(spans))
