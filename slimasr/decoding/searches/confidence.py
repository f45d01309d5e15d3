"""How sure a model is of the tokens that a search has found.

The posterior of a token is its probability in the model's output at the encoder frame that emits it: of a CTC model
given the audio, of a transducer given the audio and the tokens before it. Blank counts among the labels. The mean
posterior of its tokens is a word's confidence. (The "maximum probability" of A. Laptev and B. Ginsburg, "Fast
entropy-based methods of word-level confidence estimation for end-to-end automatic speech recognition", SLT 2022, which
aggregates it by the mean, the minimum or the product; on AN4 the mean tells right words from wrong ones best.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from slimasr.decoding.searches.greedy import start_predictor
from slimasr.decoding.searches.label_search import Hypothesis
from slimasr.decoding.searches.searchable import Searchable, SearchableTransducer, is_ctc


@torch.no_grad()
def token_posteriors(model: Searchable, scores: Tensor, labels: Hypothesis) -> tuple[float, ...]:
    """Return the posterior of each token at its frame.

    Args:
        model: in evaluation mode.
        scores: (T, J) or (T, V), what the search has read of the utterance (`label_input`).
        labels: what it has found.
    """
    if not labels:
        return ()
    tokens = torch.tensor(labels.tokens, device=scores.device)
    # (U, J) or (U, V)
    at_frames = scores[torch.tensor(labels.frames, device=scores.device)]
    # (U, V)
    logits = at_frames if is_ctc(model) else model.joiner(at_frames, _over_histories(model, tokens))
    posteriors = logits.float().softmax(-1).gather(1, tokens.unsqueeze(1)).squeeze(1)
    return tuple(posteriors.tolist())


def _over_histories(model: SearchableTransducer, tokens: Tensor) -> Tensor:
    """(U,) tokens -> (U, J), the projected predictor output before each of them."""
    lm, state = start_predictor(model, 1, tokens.device)
    found = [lm]
    for token in tokens.split(1)[:-1]:
        out, state = model.predictor.step(token, state)
        found.append(model.joiner.project_predictor(out))
    return torch.cat(found)
