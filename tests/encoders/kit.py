"""What every encoder has to hold, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from slimasr.config.model import TransducerConfig
from slimasr.encoders.base import Encoder, Known
from slimasr.models.build import shrink_model_config
from slimasr.models.transducer import Transducer
from slimasr.supernet.subnet import Subnet
from tests.tiny import VOCAB_SIZE, features, randomize


def random_model(config: TransducerConfig, widths: Sequence[float]) -> Transducer:
    """A model in evaluation mode whose norms, too, are random."""
    model = randomize(Transducer(config, VOCAB_SIZE, widths)).eval()
    assert isinstance(model, Transducer)
    return model


def assert_extraction_is_exact(config: TransducerConfig, widths: Sequence[float], subnets: Iterable[Subnet]) -> None:
    """Every subnet equals the model extracted from it, and the one built from its own configuration; all are counted
    alike."""
    model = random_model(config, widths)
    x, lens = features((61, 40))
    for subnet in subnets:
        alone = model.extract(subnet)
        want = model(x, lens, subnet)
        torch.testing.assert_close(alone(x, lens).out, want.out, atol=1e-5, rtol=1e-5)
        built = Transducer(shrink_model_config(config, subnet), VOCAB_SIZE)
        shapes = {name: value.shape for name, value in built.state_dict().items()}
        assert shapes == {name: value.shape for name, value in alone.state_dict().items()}
        built.load_state_dict(alone.state_dict())
        torch.testing.assert_close(built.eval()(x, lens).out, want.out, atol=1e-5, rtol=1e-5)
        assert sum(p.numel() for p in alone.parameters()) == model.count(subnet).params == alone.count().params


def assert_extracted_twice(config: TransducerConfig, widths: Sequence[float], first: Subnet, second: Subnet) -> None:
    """A subnet of an extracted model can be extracted in turn."""
    x, lens = features((40,))
    once = random_model(config, widths).extract(first)
    again = once.extract(second)
    torch.testing.assert_close(again(x, lens).out, once(x, lens, second).out, atol=1e-5, rtol=1e-5)


def assert_padding_has_no_effect(encoder: Encoder, subnets: Iterable[Subnet]) -> None:
    """A padded batch equals its utterances one by one, whatever the padding holds; the last one gives one frame."""
    shortest = encoder.frontend.config.min_frames
    x, lens = features((61, 40, shortest))
    x[1, 40:] = 1e4
    x[2, shortest:] = -1e4
    for subnet in subnets:
        together = encoder(x, lens, subnet)
        for row, length in enumerate(lens.tolist()):
            alone = encoder(x[row : row + 1, :length], lens[row : row + 1], subnet)
            assert alone.out.shape[1] == int(together.lens[row])
            torch.testing.assert_close(together.out[row, : alone.out.shape[1]], alone.out[0], atol=1e-4, rtol=1e-4)


def assert_units_can_be_chosen(encoder: Encoder) -> None:
    """Every group of units that the encoder names changes its output when one unit of it is left out."""
    x, lens = features((30,))
    before = encoder(x, lens).out
    for name, size in encoder.unit_groups().items():
        assert not torch.allclose(encoder(x, lens, Subnet(units=((name, size - 1),))).out, before), name
        torch.testing.assert_close(encoder(x, lens, Subnet(units=((name, size),))).out, before)


def assert_parts_equal_the_whole(encoder: Encoder, subnet: Subnet) -> None:
    """Three layers run in two parts equal the whole, and taps are hidden states."""
    x, lens = features((50, 33))
    whole = encoder(x, lens, subnet, taps=(0, 2))
    shared = encoder.run_layers(encoder.embed(x, lens, subnet), (0, 1), subnet, taps=(0,))
    torch.testing.assert_close(encoder.run_layers(shared, (2,), subnet).out, whole.out)
    torch.testing.assert_close(shared.taps[0], whole.taps[0])
    torch.testing.assert_close(whole.taps[2], whole.out)
    start = encoder.embed(x, lens, subnet)
    known = Known()
    for _ in range(2):
        # The second time with what the first has computed from the weights alone.
        run = encoder.half_runner(start, subnet, known)
        hidden = start
        for layer in (0, 1, 2):
            hidden = run(layer, 1, run(layer, 0, hidden))
        assert hidden.out.equal(whole.out)


def assert_the_first_half_depends_on_its_own_units(encoder: Encoder) -> None:
    """One unit less changes the first half of a layer if the module is in it, and the second half otherwise."""
    x, lens = features((30,))
    start = encoder.embed(x, lens)
    before = encoder.half_runner(start, Subnet(), Known())
    for name, size in encoder.unit_groups().items():
        layer, module = name.split(".")
        run = encoder.half_runner(start, Subnet(units=((name, size - 1),)), Known())
        halves = [(run(int(layer), half, start), before(int(layer), half, start)) for half in (0, 1)]
        changed = [not after.out.equal(unchanged.out) for after, unchanged in halves]
        assert changed == ([True, False] if module in encoder.first_half else [False, True]), name
