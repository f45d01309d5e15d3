"""What every subnet of a model costs, without looking at how well it recognises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from slimasr.config.schema import Config
from slimasr.measure.runtime import measure_runtime, noise_features
from slimasr.models.build import build_model
from slimasr.models.transducer import Transducer
from slimasr.supernet.space import SearchSpace, build_space
from slimasr.supernet.subnet import Subnet


@dataclass(frozen=True)
class Profile:
    """One subnet and its costs; measured ones are absent where only counting was asked for."""

    subnet: Subnet
    costs: Mapping[str, float]


def profile(model: Transducer, subnets: Iterable[Subnet], config: Config, *, measure: bool) -> Iterator[Profile]:
    """Costs of subnets.

    Args:
        measure: also time every extracted model on noise of the recipe's ``search.rtf_seconds``.
    """
    for subnet in subnets:
        costs: dict[str, float] = asdict(model.count(subnet))
        if measure:
            runtime = measure_runtime(
                model.extract(subnet),
                noise_features(model, config.search.rtf_seconds),
                threads=config.search.rtf_threads,
                max_symbols_per_frame=config.decoding.max_symbols_per_frame,
            )
            costs |= runtime.to_dict()
        yield Profile(subnet, costs)


def untrained(config: Config, vocab_size: int) -> tuple[Transducer, SearchSpace]:
    """The model that a recipe would train, with random weights, and its search space.

    Raises:
        UserError: a width of the space is impossible for this model.
    """
    space = build_space(config.space)
    return build_model(config.model, None, vocab_size, space.widths).eval(), space
