"""Where the figures of a check go: check.json and the manifest of the bundle, and results.json of the experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.export.check.bundle import CheckedBundle, Precision, note_rates
from slimasr.export.check.check import Checked
from slimasr.results.deployed import CheckedSize, CheckFile, DeployedModel, DeployedRate
from slimasr.results.schema import Results, SubnetEntry
from slimasr.results.store import change_results


def check_weights(bundle: CheckedBundle, experiment: Experiment) -> None:
    """Check that a bundle was made from the weights of an experiment.

    Raises:
        UserError: it was made from others.
    """
    # Digests of checkpoints are cut to the same length everywhere but perhaps in the manifest.
    if bundle.manifest.model.weights.startswith(experiment.weights_digest):
        return
    raise UserError(
        f"{bundle.folder}: was made from other weights than {experiment.dir}/final.pt has now; export it again "
        "(slimasr-export), or name its experiment with --exp"
    )


def save(bundle: CheckedBundle, experiment: Experiment, found: Sequence[Checked]) -> CheckFile:
    """Write what was found, and return the content of check.json.

    Models that sherpa-onnx did not run have no figures. Figures of a float model that says other words than torch, and
    of sets that no experiment knows, such as files, are noted in check.json alone.

    Raises:
        UserError: a file cannot be written.
    """
    record = CheckFile(
        experiment=experiment.config.name, weights=bundle.manifest.model.weights, sizes=_sizes(bundle, found)
    )
    record.write(bundle.folder)
    sound = [checked for checked in found if not checked.differs]
    rates: dict[tuple[str, Precision], Mapping[str, float]] = {
        (checked.variant.size.id, checked.variant.precision): {
            name: rate.wer for name, rate in checked.model.sets.items() if rate.wer is not None
        }
        for checked in sound
        if checked.model is not None
    }
    note_rates(bundle.folder, rates)
    sizes = _sizes(bundle, sound)
    change_results(experiment.dir, lambda results: _noted(results, sizes))
    return record


def _sizes(bundle: CheckedBundle, found: Sequence[Checked]) -> dict[str, CheckedSize]:
    """Put the models of each size together, by their precision and the length of the chunks that streams take."""
    mark = _chunk_mark(bundle)
    sizes: dict[str, CheckedSize] = {}
    for checked in found:
        size, model = checked.variant.size, checked.model
        if model is None:
            continue
        encoder = bundle.manifest.files[checked.variant.note.encoder].sha256
        before = sizes.get(size.id)
        models = {
            **({} if before is None else before.models),
            checked.variant.precision + mark: model.model_copy(update={"encoder": encoder}),
        }
        sizes[size.id] = CheckedSize(subnet=size.subnet, language=size.language, models=models)
    return sizes


def _chunk_mark(bundle: CheckedBundle) -> str:
    """Return what follows the precision of models that take speech chunk by chunk, such as ", chunks of 320 ms"."""
    streaming = bundle.manifest.streaming
    if streaming is None:
        return ""
    seconds = streaming.chunk_frames * bundle.manifest.audio.frame_shift
    return f", chunks of {1000 * seconds:g} ms"


def _noted(results: Results, sizes: Mapping[str, CheckedSize]) -> Results:
    """Return results.json with the models of a bundle; other models and sets of the same weights stay."""
    subnets = dict(results.subnets)
    for name, size in sizes.items():
        known = subnets.get(name, SubnetEntry(subnet=size.subnet))
        models = {
            precision: _joined(known.deployed.get(precision), model)
            for precision, model in size.models.items()
            # Time and memory on a few files say little.
            if any(rate.data is not None for rate in model.sets.values())
        }
        if models:
            weights = {rate.weights for model in models.values() for rate in model.sets.values()}
            others = {precision: model for precision, model in known.deployed.items() if _is_of(model, weights)}
            subnets[name] = known.model_copy(update={"deployed": {**others, **models}})
    return results if subnets == results.subnets else results.model_copy(update={"subnets": subnets})


def _is_of(model: DeployedModel, weights: Set[str | None]) -> bool:
    """Return whether a model was checked with some weights."""
    return any(rate.weights in weights for rate in model.sets.values())


def _joined(before: DeployedModel | None, model: DeployedModel) -> DeployedModel:
    """Return the figures of a model with those of other sets of an earlier check; sets need a fingerprint.

    Figures of emulated processors, which take long, stay as long as the encoder's file is the same.
    """
    weights = {rate.weights for rate in model.sets.values()}

    def of_weights(sets: Mapping[str, DeployedRate]) -> dict[str, DeployedRate]:
        return {name: rate for name, rate in sets.items() if rate.weights in weights}

    known = {name: rate for name, rate in model.sets.items() if rate.data is not None}
    sets = {**({} if before is None else of_weights(before.sets)), **known}
    emulated = dict(model.emulated)
    if before is not None and before.encoder == model.encoder:
        for processor, rates in before.emulated.items():
            emulated[processor] = {**of_weights(rates), **emulated.get(processor, {})}
    # What is absent stays absent in the file.
    return model.model_copy(update={"sets": sets, **({"emulated": emulated} if emulated else {})})
