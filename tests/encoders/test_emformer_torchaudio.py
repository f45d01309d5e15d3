"""Emformer layers against torchaudio's, with the same weights: whole utterances, streams, gradients.

The compiled part of torchaudio does not load beside every build of torch, but its Emformer is plain torch. So the tests
load that one file and never import the package.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimasr.config.encoders import EmformerConfig
from slimasr.config.model import StackFrontendConfig
from slimasr.elastic.emformer_layout import Window, chunk_layout
from slimasr.encoders.emformer import Emformer
from slimasr.encoders.emformer_layer import into_segments
from tests.encoders.emformer_kit import Stack, stack
from tests.tiny import randomize

CLOSE = {"atol": 2e-5, "rtol": 2e-5}
"""In float64, but torchaudio computes the attention weights in float32."""
WINDOWS = [Window(4, 30, 1, 0), Window(4, 6, 1, 3), Window(3, 5, 2, 3), Window(2, 4, 0, 0), Window(3, 0, 1, 1)]


@pytest.fixture(scope="module")
def emformer() -> type[nn.Module]:
    """The class `Emformer` of torchaudio."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("torchaudio is not installed (extra dev)")
    path = Path(spec.submodule_search_locations[0]) / "models" / "emformer.py"
    alone = importlib.util.spec_from_file_location("torchaudio_emformer", path)
    assert alone is not None and alone.loader is not None
    module = importlib.util.module_from_spec(alone)
    alone.loader.exec_module(module)
    return module.Emformer  # type: ignore[no-any-return]


def pair(emformer: Any, window: Window, squash: str = "tanh") -> tuple[Stack, Any]:
    """Two layers of ours and of torchaudio, with equal weights."""
    ours = stack(window, squash=squash)
    return ours, copied_into(ours.layers, emformer, window, squash)


def copied_into(layers: nn.ModuleList, emformer: Any, window: Window, squash: str = "tanh") -> Any:
    """Random layers of torchaudio, whose weights replace those of as many layers of ours."""
    torch.manual_seed(0)
    theirs = emformer(
        16,
        4,
        32,
        len(layers),
        window.segment,
        activation="gelu",
        left_context_length=window.left,
        right_context_length=window.right,
        max_memory_size=window.memory,
        tanh_on_mem=squash == "tanh",
    )
    randomize(theirs, seed=1)
    theirs = theirs.double().eval()
    for layer, source in zip(layers, theirs.emformer_layers, strict=True):
        for parameter, parts in joined(layer, source):
            parameter.data.copy_(torch.cat(parts))
    return theirs


NAMES = {
    "parts.heads.in_proj": ("attention.emb_to_query", "attention.emb_to_key_value"),
    "parts.heads.out_proj": ("attention.out_proj",),
    "parts.ffn.inner": ("pos_ff.1",),
    "parts.ffn.outer": ("pos_ff.4",),
    "norms.heads.affine.16": ("layer_norm_input",),
    "norms.ffn.affine.16": ("pos_ff.0",),
    "norms.out.affine.16": ("layer_norm_output",),
}
"""Our modules of a layer of full width, and those of torchaudio that they join."""


def joined(ours: nn.Module, theirs: nn.Module) -> Iterator[tuple[nn.Parameter, list[nn.Parameter]]]:
    """Our parameters of full width, and those of torchaudio that they join."""
    found, values = dict(ours.named_parameters()), dict(theirs.named_parameters())
    for kind in ("weight", "bias"):
        for name, parts in NAMES.items():
            yield found[f"{name}.{kind}"], [values.pop(f"{part}.{kind}") for part in parts]
    assert not values


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def with_look_ahead(model: Stack, x: Tensor, lens: Sequence[int]) -> Tensor:
    """Run (N, T + r, C) frames as torchaudio does: the last segment sees the r frames behind T, whatever they are.

    We mask what lies behind the end of an utterance. Torchaudio reads it, padding or not, and a last segment that is
    not whole is followed by its look-ahead without a gap. So we declare all frames available, and put its copies there.
    """
    frames = x.shape[1] - model.window.right
    valid = torch.tensor(lens)
    everything = torch.full_like(valid, 2 * x.shape[1])
    layout = chunk_layout(model.window, frames, valid, everything, torch.zeros_like(valid))
    hidden = into_segments(x, layout)
    hidden = replace(hidden, copies=torch.cat([hidden.copies[:, :-1], x[:, None, frames:]], dim=1))
    for layer, cache in zip(model.layers, model.state(len(x)).layers, strict=True):
        hidden, _ = layer.stream(hidden, layout, cache, 1.0, dict(model.units))
    return hidden.centre[:, :frames]


@pytest.mark.parametrize("squash", ["tanh", "clamp"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_forward_and_gradients_equal_torchaudio(emformer: Any, window: Window, squash: str) -> None:
    """With real look-ahead behind the end, at lengths that are multiples of the segment and others."""
    ours, theirs = pair(emformer, window, squash)
    for lens in ([13, 13], [12, 12], [13, 6], [3, 3]):
        x, weights = noise(2, max(lens) + window.right, 16), noise(2, max(lens), 16)
        if window.memory and lens[0] == 3:
            continue  # torchaudio fails on a single segment if it has memory: no summary is left to pass on
        want, _ = theirs(x, torch.tensor(lens))
        got = with_look_ahead(ours, x, lens)
        for row, length in enumerate(lens):
            torch.testing.assert_close(got[row, :length], want[row, :length], **CLOSE)
            weights[row, length:] = 0.0
        (got * weights).sum().backward()
        (want * weights).sum().backward()
    for layer, source in zip(ours.layers, theirs.emformer_layers, strict=True):
        for parameter, parts in joined(layer, source):
            torch.testing.assert_close(parameter.grad, torch.cat([part.grad for part in parts]), **CLOSE)


def test_whole_utterances_equal_torchaudio_where_both_define_the_same(emformer: Any) -> None:
    """All segments but the last, whose look-ahead is the padding in torchaudio and masked here."""
    window = Window(4, 30, 1, 0)
    ours, theirs = pair(emformer, window)
    x = noise(1, 14, 16)
    padded = torch.cat([x, torch.ones(1, 1, 16, dtype=x.dtype)], dim=1)
    want, _ = theirs(padded, torch.tensor([14]))
    got = ours.whole(x, [14])
    torch.testing.assert_close(got[:, :12], want[:, :12], **CLOSE)
    assert not torch.allclose(got[:, 12:], want[:, 12:])


def test_whole_utterances_without_look_ahead_equal_torchaudio(emformer: Any) -> None:
    window = Window(4, 6, 0, 3)
    ours, theirs = pair(emformer, window)
    x = noise(1, 14, 16)
    torch.testing.assert_close(ours.whole(x, [14]), theirs(x, torch.tensor([14]))[0], **CLOSE)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_streams_equal_torchaudio(emformer: Any, window: Window) -> None:
    """Segment by segment; torchaudio's `infer` takes whole segments with all of their look-ahead only."""
    ours, theirs = pair(emformer, window)
    c, r = window.segment, window.right
    x = noise(2, 6 * c + r, 16)
    state, states = ours.state(2), None
    with torch.no_grad():
        for begin in range(0, 6 * c, c):
            chunk = x[:, begin : begin + c + r]
            want, _, states = theirs.infer(chunk, torch.tensor([c + r, c + r]), states)
            got, state = ours.chunk(chunk, state, [c, c], [c + r, c + r])
            torch.testing.assert_close(got, want, **CLOSE)


def encoders(emformer: Any, window: Window) -> tuple[Emformer, Any]:
    """An encoder with a front end, and torchaudio's layers with the weights of its own."""
    config = EmformerConfig(
        d_model=16,
        num_layers=3,
        num_heads=4,
        ffn_dim=32,
        segment=window.segment,
        left_context=window.left,
        right_context=window.right,
        memory=window.memory,
        dropout=0.0,
    )
    ours = Emformer(config, StackFrontendConfig(), 20, (1.0,)).double().eval()
    return ours, copied_into(ours.layers, emformer, window)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_an_encoder_equals_torchaudio_wherever_look_ahead_exists(emformer: Any, window: Window) -> None:
    """Features to output and gradients: an utterance has one segment more, which is the look-ahead of the others."""
    ours, theirs = encoders(emformer, window)
    frames = 4 * window.segment
    x, weights = noise(2, 4 * (frames + window.segment), 20), noise(2, frames, 16)
    got = ours(x, torch.tensor([x.shape[1]] * 2)).out[:, :frames]
    embedded = ours.frontend(x, torch.tensor([x.shape[1]] * 2), 1.0, 16)[:, : frames + window.right]
    want, _ = theirs(embedded, torch.tensor([frames] * 2))
    torch.testing.assert_close(got, want, **CLOSE)
    frontend = list(ours.frontend.parameters())
    found = torch.autograd.grad((got * weights).sum(), [*ours.layers.parameters(), *frontend], retain_graph=True)
    (want * weights).sum().backward(inputs=[*theirs.parameters(), *frontend])
    by_parameter = dict(zip(ours.layers.parameters(), found, strict=False))
    for layer, source in zip(ours.layers, theirs.emformer_layers, strict=True):
        for parameter, parts in joined(layer, source):
            torch.testing.assert_close(by_parameter[parameter], torch.cat([part.grad for part in parts]), **CLOSE)
    for parameter, gradient in zip(frontend, found[len(by_parameter) :], strict=True):
        torch.testing.assert_close(gradient, parameter.grad, **CLOSE)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_an_encoder_streams_like_torchaudio(emformer: Any, window: Window) -> None:
    """`infer` gets every segment with its look-ahead; we get the features as they come."""
    ours, theirs = encoders(emformer, window)
    c, r = window.segment, window.right
    x = noise(2, 4 * (5 * c + r), 20)
    state, states, found = ours.init_state(2, x.device), None, []
    with torch.no_grad():
        embedded = ours.frontend(x, torch.tensor([x.shape[1]] * 2), 1.0, 16)
        for piece in x.split(7, dim=1):
            out, state = ours.stream(piece, state)
            found.append(out)
        got = torch.cat(found, dim=1)
        assert got.shape[1] == 5 * c
        for begin in range(0, 5 * c, c):
            chunk = embedded[:, begin : begin + c + r]
            want, _, states = theirs.infer(chunk, torch.tensor([c + r, c + r]), states)
            torch.testing.assert_close(got[:, begin : begin + c], want, **CLOSE)
