"""The costs of subnets, without their recognition quality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from slimasr.config.schema import Config
from slimasr.measure.latency import measure_latency
from slimasr.measure.runtime import RuntimeMeter, noise_features
from slimasr.models.base import SpeechModel
from slimasr.models.build import build_model, head_names, pathway_spec
from slimasr.results.latency import LatencyEntry
from slimasr.results.schema import Results, SubnetEntry
from slimasr.results.store import update_results
from slimasr.supernet.build import build_space
from slimasr.supernet.space import SearchSpace
from slimasr.supernet.subnet import Subnet


def profile(
    model: SpeechModel, subnets: Iterable[Subnet], config: Config, *, measure: bool
) -> Iterator[tuple[Subnet, Mapping[str, float]]]:
    """Yield the costs of subnets.

    Args:
        model: the supernet.
        subnets: subnets of it.
        config: the experiment's configuration.
        measure: whether every subnet is also extracted and timed, on ``search.rtf_seconds`` of random features.

    Yields:
        Each subnet and its costs, which include time and memory only with ``measure``.
    """
    meter = RuntimeMeter(config.search.rtf_threads) if measure else None
    for subnet in subnets:
        costs: dict[str, float] = asdict(model.count(subnet))
        if meter is not None:
            runtime = meter.measure(
                model.extract(subnet),
                noise_features(model, config.search.rtf_seconds),
                max_symbols_per_frame=config.decoding.max_symbols_per_frame,
            )
            costs |= runtime.to_dict()
        yield subnet, costs


def profile_latency(
    model: SpeechModel, subnets: Iterable[Subnet], config: Config
) -> Iterator[tuple[Subnet, LatencyEntry]]:
    """Yield the latency of streams of subnets, measured on ``search.rtf_seconds`` of noise.

    Args:
        model: the supernet; every subnet is extracted.
        subnets: subnets of it.
        config: the experiment's configuration.

    Raises:
        UserError: the encoder needs whole utterances.
    """
    for subnet in subnets:
        settings = config.decoding, config.data.sampling_rate, config.search.rtf_seconds, config.search.rtf_threads
        yield subnet, measure_latency(model.extract(subnet).eval(), *settings)


def save_latency(exp: Path, found: Mapping[Subnet, LatencyEntry]) -> None:
    """Write the latency of subnets into an experiment's results.json, beside delays that have been measured."""
    entries = {subnet.id: SubnetEntry(subnet=subnet, latency=latency) for subnet, latency in found.items()}
    update_results(exp, Results(subnets=entries))


def untrained(config: Config, vocab_size: int) -> tuple[SpeechModel, SearchSpace]:
    """Build the model of a configuration, with random weights, and its search space.

    Raises:
        UserError: the model does not allow a width of the space.
    """
    space = build_space(config)
    # Without a loss, there are no training-only heads, which costs do not count.
    model = build_model(config.model, None, vocab_size, space.widths, head_names(config), pathway_spec(config))
    return model.eval(), space
