"""Emformer layers: one mask over one axis, streams equal to the whole, causality, exact extraction, counts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from slimasr.elastic.emformer_attention import EmformerAttention
from slimasr.elastic.emformer_layout import Window, whole_layout
from slimasr.encoders.base import EncoderState
from slimasr.encoders.emformer_layer import EmformerLayer, EmformerOptions, into_segments
from slimasr.supernet.subnet import Units, ranges_of
from tests.encoders.emformer_kit import ALL, Slice, Stack, dense, stack

WINDOWS = [
    Window(4, 30, 1, 0),
    Window(4, 6, 1, 3),
    Window(3, 5, 2, 2),
    Window(3, 0, 4, 1),
    Window(2, 3, 0, 0),
    Window(1, 2, 1, 2),
    Window(3, 0, 1, 0),
]
# Filters of several segments, of more than the utterances, of the segment alone, and of fewer frames than copies
CONVOLVED = [Window(4, 6, 1, 0, 6), Window(3, 5, 2, 2, 14), Window(3, 0, 0, 1, 1), Window(1, 2, 3, 0, 2)]
RELATIVE: dict[str, object] = {"position": "relative", "squash": "clamp"}
MACARON: dict[str, object] = {**RELATIVE, "macaron": True}
# Both variants of the paper's window and of one with everything; the others in turn
CASES = [(window, variant) for window in WINDOWS[:2] for variant in ({}, RELATIVE)]
CASES += [(window, RELATIVE if i % 2 else {}) for i, window in enumerate(WINDOWS[2:])]
CASES += [(WINDOWS[2], MACARON), *((window, RELATIVE if i == 1 else MACARON) for i, window in enumerate(CONVOLVED))]
EXACT = {"atol": 1e-10, "rtol": 1e-10}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def part_of(whole: Stack, width: float, **units: Units) -> Stack:
    return Stack(whole.layers, whole.window, width, tuple({**ALL, **units}.items()))


@pytest.mark.parametrize(("window", "variant"), CASES)
def test_segments_equal_one_mask_over_one_axis(window: Window, variant: dict[str, object]) -> None:
    model = stack(window, **variant)
    for frames in (*range(1, 10), 13):
        x = noise(frames, 16)
        torch.testing.assert_close(model.whole(x[None], [frames])[0], dense(model.layers, window, x), **EXACT)


@pytest.mark.parametrize("slimming", ["head_count", "head_size"])
def test_subnets_equal_one_mask_over_one_axis(slimming: str) -> None:
    window = Window(3, 4, 1, 2)
    model = stack(window, position="relative", slimming=slimming)
    half = Slice(8, (0, 1), 4) if slimming == "head_count" else Slice(8, (0, 1, 2, 3), 2)
    cases = [
        (part_of(model, 0.5), Slice(8, half.heads, half.head_dim, tuple(range(16)))),
        (part_of(model, 0.5, heads=ranges_of([1]), ffn=5), Slice(8, (1,), half.head_dim, tuple(range(5)))),
        (part_of(model, 1.0, heads=ranges_of([1, 3]), ffn=ranges_of([0, 7, 31])), Slice(16, (1, 3), 4, (0, 7, 31))),
    ]
    for chosen, part in cases:
        x = noise(11, part.channels)
        torch.testing.assert_close(chosen.whole(x[None], [11])[0], dense(model.layers, window, x, part), **EXACT)


@pytest.mark.parametrize(("window", "variant"), CASES)
def test_a_padded_batch_equals_utterances_run_alone(window: Window, variant: dict[str, object]) -> None:
    """Values and gradients; padded segments have no key and give no NaN."""
    model = stack(window, **variant)
    lens = [13, 5, 1]
    x, weights = noise(3, 13, 16), noise(3, 13, 16, seed=1)
    for row, length in enumerate(lens):
        x[row, length:] = 1e4
        weights[row, length:] = 0.0
    together = model.whole(x, lens)
    assert together.isfinite().all()
    (together * weights).sum().backward()
    found = gradients(model)
    for row, length in enumerate(lens):
        alone = model.whole(x[row : row + 1, :length], [length])
        torch.testing.assert_close(together[row : row + 1, :length], alone, **EXACT)
        (alone * weights[row, :length]).sum().backward()
    for name, value in gradients(model).items():
        torch.testing.assert_close(found[name], value, atol=1e-8, rtol=1e-8, msg=name)


def gradients(model: Stack) -> dict[str, Tensor]:
    """The gradients since the last call."""
    found = {name: p.grad.clone() for name, p in model.layers.named_parameters() if p.grad is not None}
    model.layers.zero_grad(set_to_none=True)
    return found


def cuts(segments: int) -> Iterator[list[int]]:
    """Chunks of one segment, of all, and two random cuts."""
    yield [1] * segments
    yield [segments]
    for seed in range(2):
        draw, left, parts = random.Random(seed), segments, []
        while left:
            parts.append(draw.randint(1, left))
            left -= parts[-1]
        yield parts


@pytest.mark.parametrize(("window", "variant"), CASES)
def test_streaming_equals_the_whole(window: Window, variant: dict[str, object]) -> None:
    model = stack(window, **variant)
    with torch.no_grad():
        for frames in range(1, 14):
            x = noise(2, frames, 16)
            want = model.whole(x, [frames, frames])
            for chunks in cuts(window.segments(frames)):
                torch.testing.assert_close(model.stream(x, chunks), want, **EXACT)


def test_subnets_of_all_modules_equal_one_mask_over_one_axis() -> None:
    window = Window(3, 4, 1, 2, 5)
    model = stack(window, macaron=True)
    half = Slice(8, (0, 1), 4, tuple(range(16)), tuple(range(12)), tuple(range(8)))
    units = {"ffn1": ranges_of([2, 9]), "heads": 1, "conv": ranges_of([1, 3, 4]), "ffn": 5}
    some = Slice(8, (0,), 4, tuple(range(5)), (2, 9), (1, 3, 4))
    for chosen, part in ((part_of(model, 0.5), half), (part_of(model, 0.5, **units), some)):
        x = noise(11, part.channels)
        torch.testing.assert_close(chosen.whole(x[None], [11])[0], dense(model.layers, window, x, part), **EXACT)


@pytest.mark.parametrize("window", [Window(4, 30, 1, 2), Window(4, 30, 1, 0, 30)], ids=str)
def test_streaming_equals_the_whole_in_float32_and_at_subnets(window: Window) -> None:
    model = stack(window, 3, double=False, position="relative", macaron=window.history > 0)
    for part in (
        model,
        part_of(model, 0.5, heads=ranges_of([1]), ffn=5),
        part_of(model, 1.0, heads=0),
        part_of(model, 1.0, ffn=0, conv=0),
    ):
        x = noise(1, 61, int(16 * part.width)).float()
        with torch.no_grad():
            torch.testing.assert_close(part.stream(x, [1] * 16), part.whole(x, [61]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", [*WINDOWS, *CONVOLVED], ids=str)
def test_streams_of_different_age_run_in_one_batch(window: Window) -> None:
    """Streams begin and end at different times and have different numbers of segments in a chunk, down to none."""
    model, draw = stack(window, position="relative"), random.Random(0)
    c, r = window.segment, window.right
    inputs = [noise(frames, 16, seed=frames) for frames in (1, 7, 13, 20)]
    states = [model.state(1) for _ in inputs]
    begins = [0] * len(inputs)
    outputs: list[list[Tensor]] = [[] for _ in inputs]
    for tick in itertools.count():
        active = [i for i, x in enumerate(inputs) if i <= tick and begins[i] < len(x)]
        if not active and tick > len(inputs):
            break
        # At least one stream advances, and the others may wait for audio.
        steps = [draw.randint(1 if i == active[0] else 0, 3) for i in active]
        ends = [min(len(inputs[i]), begins[i] + c * step) for i, step in zip(active, steps, strict=True)]
        chunks = [inputs[i][begins[i] : end + r] for i, end in zip(active, ends, strict=True)]
        lens = [end - begins[i] for i, end in zip(active, ends, strict=True)]
        # What a stream has no audio for must not matter.
        x = torch.nn.utils.rnn.pad_sequence(chunks, batch_first=True, padding_value=1e3)
        with torch.no_grad():
            stacked = EncoderState.stack([states[i] for i in active])
            out, after = model.chunk(x, stacked, lens, [len(chunk) for chunk in chunks])
        for row, i in enumerate(active):
            outputs[i].append(out[row, : lens[row]])
            states[i] = after.select([row])
            begins[i] += lens[row]
    for x, got, state in zip(inputs, outputs, states, strict=True):
        torch.testing.assert_close(torch.cat(got), model.whole(x[None], [len(x)])[0].detach(), **EXACT)
        assert state.seen.tolist() == [len(x)]


@pytest.mark.parametrize("depth", [1, 20])
@pytest.mark.parametrize(
    "window", [Window(4, 30, 1, 0), Window(3, 4, 2, 2), Window(2, 3, 0, 1), Window(4, 30, 1, 0, 30)], ids=str
)
def test_no_bit_depends_on_frames_behind_the_look_ahead(window: Window, depth: int) -> None:
    model, frames = stack(window, depth, double=False, position="relative", macaron=window.history > 0), 14
    x = noise(1, frames, 16).float()
    with torch.no_grad():
        before = model.whole(x, [frames])
        for changed in range(frames):
            other = x.clone()
            # Not the same for all channels, which the norms would remove.
            other[:, changed] += noise(16, seed=1).float()
            after = model.whole(other, [frames])
            # Segments whose look-ahead ends before the changed frame, and the first that sees it
            same = max(0, (changed - window.right) // window.segment) * window.segment
            assert torch.equal(after[:, :same], before[:, :same])
            moved = after[:, same : same + window.segment] != before[:, same : same + window.segment]
            assert moved.any(), changed


@pytest.mark.parametrize(("window", "first"), [(Window(2, 4, 0, 0), 18), (Window(2, 1, 0, 0, 3), 19)], ids=str)
def test_long_streams_forget_what_lies_behind_all_windows(window: Window, first: int) -> None:
    """The receptive field to the left: l + the segment per layer, and k - 1 more with a convolution."""
    model = stack(window, 2)
    x = noise(1, 22, 16)
    other = x.clone()
    other[:, :10] += noise(10, 16, seed=1)
    before, after = model.whole(x, [22]), model.whole(other, [22])
    same = [torch.equal(before[:, frame], after[:, frame]) for frame in range(10, 22)]
    assert same == [frame >= first for frame in range(10, 22)]


SUBNETS: list[tuple[float, dict[str, Units]]] = [
    (1.0, {}),
    (0.5, {}),
    (0.5, {"heads": ranges_of([1]), "ffn": 7}),
    (1.0, {"heads": ranges_of([1, 3]), "ffn": ranges_of([2, 5])}),
    (1.0, {"heads": 0}),
    (1.0, {"ffn": 0}),
]
ALL_MODULES: list[tuple[float, dict[str, Units]]] = [
    *SUBNETS[:2],
    (0.5, {"ffn1": 3, "heads": ranges_of([1]), "conv": ranges_of([0, 5]), "ffn": 7}),
    (1.0, {"ffn1": 0, "conv": 0}),
]


@pytest.mark.parametrize(("width", "units"), SUBNETS)
@pytest.mark.parametrize(
    "changes", [{}, {"position": "relative", "slimming": "head_size"}, {"norm": "shared", "adaptive_dropout": True}]
)
def test_extraction_is_exact_and_counted(changes: dict[str, object], width: float, units: dict[str, Units]) -> None:
    assert_extraction_is_exact_and_counted(Window(3, 4, 1, 2), changes, width, units)


@pytest.mark.parametrize(("width", "units"), ALL_MODULES)
def test_extraction_of_all_modules_is_exact_and_counted(width: float, units: dict[str, Units]) -> None:
    assert_extraction_is_exact_and_counted(Window(3, 4, 1, 2, 4), {"macaron": True}, width, units)


def assert_extraction_is_exact_and_counted(
    window: Window, changes: dict[str, object], width: float, units: dict[str, Units]
) -> None:
    part = part_of(stack(window, 1, **changes), width, **units)
    layer, channels, chosen = part.layers[0], int(16 * width), dict(part.units)
    head_dim = int(4 * width) if changes.get("slimming") == "head_size" else 4
    options = replace(layer.options, head_dim=head_dim)
    alone = layer.extract(options, channels, width, chosen).eval()
    x = noise(2, 8, channels)
    got = Stack(torch.nn.ModuleList([alone.double()]), window).whole(x, [8, 5])
    torch.testing.assert_close(got, part.whole(x, [8, 5]), **EXACT)
    built = EmformerLayer(channels, **layer.chosen_sizes(width, chosen), widths=(channels,), options=options)
    shapes = {name: value.shape for name, value in built.state_dict().items()}
    assert shapes == {name: value.shape for name, value in alone.state_dict().items()}
    params = sum(p.numel() for p in alone.parameters())
    assert params == layer.count(channels, width, chosen, 8).params
    assert params == alone.count(channels, 1.0, ALL, 8).params


@pytest.mark.parametrize(
    ("window", "width", "units"),
    [
        *((WINDOWS[1], *subnet) for subnet in SUBNETS),
        *((window, 1.0, {}) for window in WINDOWS if window != WINDOWS[1]),
        *((CONVOLVED[1], *subnet) for subnet in ALL_MODULES),
        (CONVOLVED[3], 1.0, {}),
    ],
)
def test_macs_are_those_of_the_products_of_a_stream(window: Window, width: float, units: dict[str, Units]) -> None:
    macaron = window == CONVOLVED[1]
    part = part_of(stack(window, 1, position="relative", macaron=macaron), width, **units)
    for frames in (4, 11):
        x = noise(1, frames, int(16 * width))
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            part.stream(x, [1] * window.segments(frames))
        counted = part.layers[0].count(int(16 * width), width, dict(part.units), frames)
        assert counted.macs == flops.get_total_flops() / 2


def test_parameters_of_the_paper() -> None:
    """512 channels, 8 heads, 2048 hidden channels (paper 3); relative positions add one number per head and column."""
    window = Window(4, 30, 1, 0)
    for position, more in (("none", 0), ("relative", 8 * (30 + 2 * 5 - 1))):
        options = EmformerOptions(window, 64, position=position)  # type: ignore[arg-type]
        with torch.device("meta"):
            layer = EmformerLayer(512, 8, 2048, (512,), options)
        params = sum(p.numel() for p in layer.parameters())
        assert params == 3_153_408 + more == layer.count(512, 1.0, ALL, 250).params


def test_macs_of_the_paper() -> None:
    """Every weight is used (c + r) / c times a frame; a query meets m + l + r + c keys."""
    with torch.device("meta"):
        layer = EmformerLayer(512, 8, 2048, (512,), EmformerOptions(Window(4, 30, 1, 0), 64))
    weights = 4 * 512 * 512 + 2 * 512 * 2048
    assert layer.count(512, 1.0, ALL, 4).macs == 5 * (weights + 2 * 35 * 512)


def test_weights_outside_the_slice_get_zero_gradient() -> None:
    part = part_of(stack(Window(3, 4, 1, 1), 1, position="relative"), 0.5, heads=ranges_of([1]), ffn=ranges_of([3, 9]))
    part.whole(noise(1, 8, 8), [8]).square().sum().backward()
    attention, ffn = part.layers[0].parts["heads"], part.layers[0].parts["ffn"]
    rows = torch.zeros(4, 4, dtype=torch.bool)
    rows[1] = True
    for block in attention.in_proj.weight.grad.chunk(3):
        assert (block[~rows.flatten()] == 0).all() and (block[:, 8:] == 0).all()
        assert (block[rows.flatten(), :8] != 0).all()
    assert (attention.position_bias.grad[[0, 2, 3]] == 0).all() and (attention.position_bias.grad[1] != 0).any()
    assert (ffn.inner.weight.grad[[i for i in range(32) if i not in (3, 9)]] == 0).all()
    assert all((p.grad is None) == (".affine.16." in name) for name, p in part.layers[0].named_parameters())


def test_initial_gains_go_by_the_place_in_the_path() -> None:
    options = EmformerOptions(Window(), 16)
    for place in (0, 3):
        attention = EmformerLayer(64, 4, 0, (64,), options, place).parts["heads"]
        assert isinstance(attention, EmformerAttention)
        for block in attention.in_proj.weight.chunk(3):
            bound = (6 / 128) ** 0.5 / (place + 1) ** 0.5
            assert 0.99 * bound < block.abs().max() <= bound


def test_initial_positions_are_local_from_the_second_head_on() -> None:
    window = Window(2, 3, 1, 2)
    bias = EmformerAttention(16, 3, 4, window, position="relative").position_bias
    # Distances -2 ... 5, then the summaries of the segments before, 2 and 4 frames away
    torch.testing.assert_close(bias[2], -torch.tensor([2.0, 1, 0, 1, 2, 3, 4, 5, 2, 4]))
    torch.testing.assert_close(bias[:2], torch.stack([0 * bias[2], 0.5 * bias[2]]))


def test_dropout_is_at_weights_and_outputs() -> None:
    layer = stack(Window(3, 4, 1, 1), 1, dropout=0.5).layers[0].train()
    layout = whole_layout(Window(3, 4, 1, 1), 6, torch.tensor([6]))
    hidden = into_segments(noise(1, 6, 16), layout)
    attention = layer.parts["heads"]
    x = noise(1, 2, 4, 16)
    draws = torch.stack([attention(x, hidden.memory, layout, None, 1.0).memory for _ in range(200)])
    assert draws.std(dim=0).min() > 0.0
    attention.dropout.p = 1.0
    attended = attention(x, hidden.memory, layout, None, 1.0)
    assert (attended.frames == 0).all()
    # Summaries have no dropout of their own: without any weight, the bias is left.
    torch.testing.assert_close(attended.memory[0], attention.out_proj.bias.tanh().expand(2, -1))


def test_summaries_are_bounded() -> None:
    for squash, bound in (("tanh", 1.0), ("clamp", 10.0)):
        model = stack(Window(3, 4, 1, 1), 1, squash=squash)
        model.layers[0].parts["heads"].out_proj.weight.data *= 1e3
        layout = whole_layout(model.window, 6, torch.tensor([6]))
        assert model.run(into_segments(noise(1, 6, 16), layout), layout).memory.abs().max() == bound


def test_half_precision_has_no_nan_where_segments_have_no_key() -> None:
    model = stack(Window(3, 4, 1, 1), double=False, position="relative")
    x = noise(2, 13, 16).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = model.whole(x, [13, 1])
    out.float().square().sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.layers.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("segment", 0, "segment: must be at least 1"), ("left", -1, "left: must not"), ("right", -1, "right: must not"),
     ("memory", -1, "memory: must not")],
)  # fmt: skip
def test_impossible_windows_are_errors(name: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Window(**{name: value})


def test_impossible_units_are_errors() -> None:
    with pytest.raises(ValueError, match="unit 4 chosen where only 4 run"):
        part_of(stack(Window()), 1.0, heads=ranges_of([4])).whole(noise(1, 4, 16), [4])
