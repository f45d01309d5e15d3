"""Emformer encoder as a stream: equal to the whole, streams of different ages, causality, work as it is counted."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from slimasr.config.encoders import EmformerConfig
from slimasr.config.model import ConvFrontendConfig, FrontendConfig, StackFrontendConfig
from slimasr.encoders.base import EncoderState
from slimasr.encoders.emformer import Emformer
from slimasr.supernet.subnet import Subnet
from tests.tiny import features, randomize

STACK = StackFrontendConfig()
CONV = ConvFrontendConfig(channels=2)
BINS = 8
EXACT = {"atol": 1e-10, "rtol": 1e-10}
CPU = torch.device("cpu")
# segment, left context, right context, memory
WINDOWS = [(4, 30, 1, 0), (3, 5, 2, 2), (4, 0, 1, 1), (2, 3, 0, 0)]
PAPER5: dict[str, object] = {"macaron": True, "conv_kernel": 31}
HALF = Subnet(0.5, (0, 1), (("0.heads", (1,)), ("1.ffn", 3)))


def emformer(window: tuple[int, int, int, int], frontend: FrontendConfig = STACK, **changes: object) -> Emformer:
    names = ("segment", "left_context", "right_context", "memory")
    sizes: dict[str, object] = {"d_model": 8, "num_layers": 2, "num_heads": 4, "ffn_dim": 16, "position": "relative"}
    config = EmformerConfig(**{**sizes, **dict(zip(names, window, strict=True)), **changes})
    encoder = randomize(Emformer(config, frontend, BINS, (1.0, 0.5)).double()).eval()
    assert isinstance(encoder, Emformer)
    return encoder


def noise(rows: int, frames: int, seed: int = 0) -> Tensor:
    return features((frames,) * rows, seed, BINS)[0].double()


def whole(encoder: Emformer, x: Tensor, subnet: Subnet | None = None) -> Tensor:
    """(n, T, F) -> (n, T', C), run as whole utterances."""
    with torch.no_grad():
        return encoder(x, torch.full((len(x),), x.shape[1]), subnet).out


def streamed(encoder: Emformer, x: Tensor, pieces: Iterable[int], subnet: Subnet | None = None) -> Tensor:
    """The same in pieces of so many input frames; the stream ends with the last of them."""
    state, begin, outputs = encoder.init_state(len(x), CPU, subnet), 0, []
    with torch.no_grad():
        for piece in pieces:
            out, state = encoder.stream(x[:, begin : begin + piece], state, subnet, begin + piece >= x.shape[1])
            outputs.append(out)
            begin += piece
    assert begin >= x.shape[1] and state.frames.shape[1] == 0
    return torch.cat(outputs, dim=1)


def cuts(total: int) -> list[list[int]]:
    """Pieces of 1, 3 and 5 frames behind the front end, of all frames, of single input frames, and of random size."""
    found = [[size] * -(-total // size) for size in (4, 12, 20, max(1, total), 1)]
    for seed in range(2):
        draw, left, parts = random.Random(seed), total, []
        while left > 0:
            parts.append(draw.randint(0, 30))
            left -= parts[-1]
        found.append([*parts, 0])
    return found


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_pieces_of_any_size_equal_the_whole(window: tuple[int, int, int, int]) -> None:
    encoder = emformer(window)
    for frames in range(1, 14) if window == WINDOWS[0] else (1, 2, 3, 7, 12):
        x = noise(2, 4 * frames + frames % 4)
        want = whole(encoder, x)
        assert want.shape == (2, frames, 8)
        for pieces in cuts(x.shape[1]):
            torch.testing.assert_close(streamed(encoder, x, pieces), want, **EXACT)


@pytest.mark.parametrize("subnet", [Subnet(), HALF])
def test_behind_convolutions(subnet: Subnet) -> None:
    """An output frame needs 7 input frames, of which the next one needs the last 3 again."""
    encoder = emformer((3, 4, 1, 1), CONV)
    for total in (7, 10, 22, 45):
        x = noise(1, total)
        want = whole(encoder, x, subnet)
        for pieces in cuts(total):
            torch.testing.assert_close(streamed(encoder, x, pieces, subnet), want, **EXACT)


def test_the_subnets_of_a_stream() -> None:
    encoder, x = emformer(WINDOWS[1]), noise(1, 50)
    for subnet in (HALF, Subnet(0.5), Subnet(1.0, (1,)), Subnet(1.0, None, (("0.heads", 0), ("1.ffn", 0)))):
        torch.testing.assert_close(streamed(encoder, x, [13] * 4, subnet), whole(encoder, x, subnet), **EXACT)


@pytest.mark.parametrize("frontend", [STACK, CONV])
def test_output_comes_with_its_look_ahead_and_not_later(frontend: FrontendConfig) -> None:
    encoder = emformer((4, 8, 2, 0), frontend)
    chunk, behind = encoder.chunk_frames, encoder.look_ahead_frames
    assert (chunk, behind) == (16, 8 if frontend == STACK else 11)
    x, state = noise(1, chunk + behind), encoder.init_state(1, CPU)
    out, state = encoder.stream(x[:, :-1], state)
    assert out.shape == (1, 0, 8) and state.frames.shape[1] == chunk + behind - 1
    out, state = encoder.stream(x[:, -1:], state)
    assert out.shape == (1, 4, 8) and state.frames.shape[1] == behind and state.seen.tolist() == [4]


@pytest.mark.parametrize("kernel", [31, 3])
def test_convolutions_stream_in_pieces_of_any_size(kernel: int) -> None:
    """In float32 as in use, with the modules of paper 5: filters of more and of fewer frames than a segment."""
    encoder = emformer((4, 8, 1, 0), macaron=True, conv_kernel=kernel).float()
    some = Subnet(0.5, (0, 1), (("0.ffn1", 3), ("0.conv", (1, 2)), ("1.conv", 0), ("1.ffn1", 0)))
    for subnet, total in ((None, 4), (None, 7), (None, 57), (None, 160), (some, 57)):
        x = noise(2, total).float()
        want = whole(encoder, x, subnet)
        for pieces in cuts(total):
            torch.testing.assert_close(streamed(encoder, x, pieces, subnet), want, atol=1e-4, rtol=1e-4)


def test_streams_that_end_before_they_have_output() -> None:
    encoder = emformer(WINDOWS[0])
    for frames in (0, 1, 3):
        out, state = encoder.stream(noise(2, 0)[:, :0], encoder.init_state(2, CPU), final=False)
        out, state = encoder.stream(noise(2, 3)[:, :frames], state, final=True)
        assert out.shape == (2, 0, 8) and state.frames.shape[1] == 0


@pytest.mark.parametrize(("window", "changes"), [*((window, {}) for window in WINDOWS), (WINDOWS[1], PAPER5)], ids=str)
def test_streams_of_different_age_run_in_one_batch(
    window: tuple[int, int, int, int], changes: dict[str, object]
) -> None:
    """They begin and end at different times; those with equally many waiting frames advance together."""
    encoder, draw = emformer(window, **changes), random.Random(1)
    inputs = [noise(1, frames, seed=frames) for frames in (60, 121, 122, 203)]
    states = [encoder.init_state(1, CPU) for _ in inputs]
    outputs: list[list[Tensor]] = [[] for _ in inputs]
    done = [0] * len(inputs)
    ages = list[set[int]]()
    for tick in range(80):
        piece = draw.choice([4, 8, 12])
        groups: dict[tuple[int, int], list[int]] = {}
        for i, x in enumerate(inputs):
            if 2 * i <= tick and done[i] < x.shape[1]:
                groups.setdefault((states[i].frames.shape[1], min(piece, x.shape[1] - done[i])), []).append(i)
        for (_, new), members in groups.items():
            # Of streams that end with this piece, each has a call of its own, because the others go on.
            ends = [[i] for i in members if done[i] + new == inputs[i].shape[1]]
            for rows in [*ends, [i for i in members if [i] not in ends]]:
                if not rows:
                    continue
                ages.append({int(states[i].seen) for i in rows})
                x = torch.cat([inputs[i][:, done[i] : done[i] + new] for i in rows])
                together = EncoderState.stack([states[i] for i in rows])
                with torch.no_grad():
                    out, after = encoder.stream(x, together, final=rows in ends)
                for at, i in enumerate(rows):
                    outputs[i].append(out[at : at + 1])
                    states[i] = after.select([at])
                    done[i] += new
    assert sum(len(seen) > 1 for seen in ages) > 3
    for x, got in zip(inputs, outputs, strict=True):
        torch.testing.assert_close(torch.cat(got, dim=1), whole(encoder, x), **EXACT)


@pytest.mark.parametrize("depth", [1, 20])
@pytest.mark.parametrize(("frontend", "changes"), [(STACK, {}), (CONV, {}), (STACK, PAPER5)])
def test_no_bit_depends_on_input_behind_the_look_ahead(
    depth: int, frontend: FrontendConfig, changes: dict[str, object]
) -> None:
    encoder, total = emformer((4, 30, 1, 0), frontend, num_layers=depth, **changes).float(), 60
    chunk, behind = encoder.chunk_frames, encoder.look_ahead_frames
    x = noise(1, total).float()
    before = whole(encoder, x)
    for changed in (0, 15, 16, chunk + behind - 1, chunk + behind, 35, 40, total - 5):
        other = x.clone()
        other[:, changed] += noise(1, 1, seed=9)[0, 0].float()
        after = whole(encoder, other)
        # Segments whose look-ahead ends before the changed frame, and the first that sees it
        same = max(0, (changed - behind) // chunk) * 4
        assert after[:, :same].equal(before[:, :same])
        assert not after[:, same : same + 4].equal(before[:, same : same + 4]), changed


@pytest.mark.parametrize("frontend", [STACK, CONV])
@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[1], WINDOWS[3]], ids=str)
def test_work_is_counted_as_a_stream_does_it(window: tuple[int, int, int, int], frontend: FrontendConfig) -> None:
    encoder = emformer(window, frontend, **(PAPER5 if window == WINDOWS[3] else {}))
    for subnet in (Subnet(), HALF):
        for frames in (1, 5, 12):
            x, state = noise(1, frontend.min_frames + 4 * (frames - 1)), encoder.init_state(1, CPU, subnet)
            first = encoder.chunk_frames + encoder.look_ahead_frames
            with FlopCounterMode(display=False) as flops, torch.no_grad():
                _, state = encoder.stream(x[:, :first], state, subnet)
                for piece in x[:, first:].split(encoder.chunk_frames, dim=1):
                    _, state = encoder.stream(piece, state, subnet)
                encoder.stream(x[:, :0], state, subnet, final=True)
            assert encoder.count(subnet, x.shape[1]).macs == flops.get_total_flops() / 2
