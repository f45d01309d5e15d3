"""The start of a run from a trained model (``training.init``): weights, feature statistics and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slimasr.config.initial import InitConfig
from slimasr.config.load import first_different_key, load_config
from slimasr.config.model import ModelConfig
from slimasr.config.schema import Config
from slimasr.config.sizes import first_different_size
from slimasr.data.tokens.load import load_tokenizer
from slimasr.errors import UserError
from slimasr.experiment.checkpoints import check_tokenizer_of, fingerprint, load_checkpoint, load_weights, renamed
from slimasr.experiment.folder import Experiment, needed
from slimasr.experiment.subnets import find_subnet
from slimasr.models.base import SpeechModel
from slimasr.models.build import head_names
from slimasr.models.matching import Outputs, Source, Taken, extracted, take_matching, vocabulary_tensors
from slimasr.models.prefix import subnet_of_size
from slimasr.supernet.build import build_space
from slimasr.supernet.subnet import Subnet

KEY = "training.init.from"
STATISTICS = ("feature_mean", "feature_std")
"""Tensors of a model that hold the statistics of features."""
WITHOUT_TOKENIZER = "is in no experiment folder with a tokenizer; set training.init.tokenizer to own"
ADVICE = "give the recipe the sizes and space.widths of that model, or set training.init.weights to matching"
OTHER_UNITS = "it depends on the vocabulary, which is another one"
OWN_STATISTICS = "the run has its own (training.init.stats)"


@dataclass(frozen=True)
class InitialWeights:
    """The weights with which a run begins.

    Attributes:
        weights: name in the model -> tensor on the CPU; statistics of features and norms are among them, masks (Boolean
            buffers) are not.
        digest: digest of the file from which they come.
        path: that file.
        source: the model from which those that fit are taken; None = all of ``weights`` are.
        subnet: the subnet of an experiment that has been extracted; None = the experiment is taken as it is.
        tokenizer: fingerprint of the tokenizer with which they were trained; None = unknown.
        own_stats: whether the run keeps its own statistics of features.
    """

    weights: Mapping[str, torch.Tensor]
    digest: str
    path: Path
    source: Source | None = None
    subnet: Subnet | None = None
    tokenizer: str | None = None
    own_stats: bool = False

    def load_into(self, model: SpeechModel) -> None:
        """Copy all weights into a model, which keeps its own masks, and its own statistics of features if it has any.

        Raises:
            UserError: a weight does not fit; the message names the first one.
        """
        own = {name: tensor for name, tensor in model.state_dict().items() if tensor.dtype == torch.bool}
        if self.own_stats:
            own |= {name: model.state_dict()[name] for name in STATISTICS}
        load_weights(model, {**self.weights, **own}, self.path)

    def take_into(self, model: SpeechModel, config: Config, tokenizer: str) -> Taken:
        """Copy what the recipe asks for into a model.

        Args:
            model: the model of the run, with its own statistics of features if it has any.
            config: the configuration that is trained.
            tokenizer: fingerprint of the tokenizer of the run.

        Returns:
            What has been taken, by names of tensors.

        Raises:
            UserError: all weights are asked for, and one does not fit or has another tokenizer; or none fits.
        """
        another = self.tokenizer is not None and self.tokenizer != tokenizer
        if self.source is None:
            if another:
                raise UserError(
                    f"{self.path}: was trained with another tokenizer ({self.tokenizer}) than this run's "
                    f"({tokenizer}): "
                    "set training.init.tokenizer to keep, or training.init.weights to matching to begin with random "
                    "weights where they depend on the vocabulary"
                )
            try:
                self.load_into(model)
            except UserError as error:
                raise UserError(f"{KEY}: {error}; {ADVICE}") from None
            return Taken(whole=list(self.weights))
        outputs = Outputs(config.loss, head_names(config))
        excluded = dict.fromkeys(STATISTICS, OWN_STATISTICS) if self.own_stats else {}
        if another:
            excluded |= dict.fromkeys(vocabulary_tensors(model.config, outputs), OTHER_UNITS)
        taken = take_matching(model, outputs, self.source, excluded)
        if not taken.first and set(taken.whole) <= {*STATISTICS}:
            raise UserError(f"{KEY}: no weight of {self.path} fits this model ({taken.obstacle}); choose equal sizes")
        return taken


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    Attributes:
        path: their file.
        exp: the experiment or extracted model to which the file belongs; None = the file lies elsewhere.
        checkpoint: the name of the file in that experiment (`Experiment.open`).
    """

    path: Path
    exp: Path | None
    checkpoint: str = "final"


def origin_of(path: Path) -> Origin:
    """Return the file of ``training.init.from`` and the experiment to which it belongs."""
    if path.suffix != ".pt":
        return Origin(path / "final.pt", path)
    if path.parent.name == "checkpoints" and (path.parent.parent / "config.yaml").is_file():
        return Origin(path, path.parent.parent, path.stem)
    if path.name == "final.pt" and (path.parent / "config.yaml").is_file():
        return Origin(path, path.parent)
    return Origin(path, None)


def final_weights(path: Path) -> Path:
    """The file from which a run takes the weights of ``training.init.from``."""
    return origin_of(path).path


def initial_weights(config: Config, asked: Config | None = None) -> InitialWeights | None:
    """Read the weights with which a run begins, None if it begins with random ones, and check that they fit it.

    Args:
        config: the configuration that is trained.
        asked: the recipe from which it follows, which for a separate model has the sizes of the supernet.

    Raises:
        UserError: the experiment of ``training.init`` is missing or damaged, or has other sizes, units or features than
            the recipe; the message names the first key that differs.
    """
    init = config.training.init
    if init is None:
        return None
    origin = origin_of(init.from_)
    if origin.exp is None:
        return _from_file(init, origin.path)
    if origin.exp.is_file():
        raise UserError(f"{KEY}: {origin.exp} is no experiment folder, and no checkpoint, whose path ends in .pt")
    stored = load_config(needed(origin.exp / "config.yaml", f", or name a trained experiment ({KEY})"))
    needed(origin.path, f" to its end; {KEY} names this experiment")
    _check_products(init, stored, config)
    try:
        config.method.check_start(stored, origin.exp)
    except ValueError as error:
        raise UserError(f"{KEY}: {error}") from None
    found = _source(init, origin, stored, config, asked)
    if init.weights == "all" and found.source.config is not None:
        _refuse(init, first_different_size(found.source.config, config.model), "training.init.weights to matching")
    return InitialWeights(
        found.source.weights,
        fingerprint(origin.path),
        origin.path,
        source=None if init.weights == "all" else found.source,
        subnet=found.subnet,
        tokenizer=found.tokenizer,
        own_stats=init.stats == "own",
    )


def read_unchanged(init: InitConfig, digest: str | None, subnet: Subnet | None = None) -> Mapping[str, torch.Tensor]:
    """Read the weights with which a run began once more (`InitialWeights`), without statistics if it has its own.

    Args:
        init: where they come from.
        digest: the digest of their file when the run began; None = unknown.
        subnet: the subnet that was extracted.

    Raises:
        UserError: they are gone or have changed.
    """
    origin = origin_of(init.from_)
    check_unchanged(origin.path, digest)
    if subnet is None:
        weights: Mapping[str, torch.Tensor] = _weights(load_checkpoint(origin.path))
    else:
        assert origin.exp is not None, "subnets come from experiments"
        weights = _extracted(Experiment.open(origin.exp, origin.checkpoint), subnet).weights
    own = STATISTICS if init.stats == "own" else ()
    return {name: tensor for name, tensor in weights.items() if name not in own}


def check_unchanged(path: Path, digest: str | None) -> None:
    """Check that the weights with which a run began are still there and the same.

    Args:
        path: their file.
        digest: its digest when the run began; None = unknown.

    Raises:
        UserError: they are gone or have changed.
    """
    if not path.is_file():
        raise UserError(f"{path} is gone, with which this run began ({KEY}); restore it")
    if digest is not None and fingerprint(path) != digest:
        raise UserError(
            f"{path} has changed since this run began with it ({KEY}); restore it, or choose another --exp to begin "
            "with the present weights"
        )


@dataclass(frozen=True)
class _Found:
    """The model that has been read, the subnet that it was cut out as, and the fingerprint of its tokenizer."""

    source: Source
    subnet: Subnet | None = None
    tokenizer: str | None = None


def _from_file(init: InitConfig, path: Path) -> InitialWeights:
    """Read weights that lie outside of an experiment, so that only the names and shapes of tensors are known."""
    if init.tokenizer == "keep":
        raise UserError(f"{KEY}: {path} {WITHOUT_TOKENIZER}")
    if init.subnet is not None:
        raise UserError(f"training.init.subnet: {path} is in no experiment folder, so {init.subnet} is not known")
    if not path.is_file():
        what = "is no file" if path.exists() else "is missing"
        raise UserError(f"{KEY}: {path} {what}; name an experiment folder or a checkpoint")
    saved = load_checkpoint(path)
    weights = _weights(saved)
    source = Source(weights) if init.weights == "matching" else None
    named = saved.get("tokenizer")
    return InitialWeights(weights, fingerprint(path), path, source, None, named, own_stats=init.stats == "own")


def _source(init: InitConfig, origin: Origin, stored: Config, config: Config, asked: Config | None) -> _Found:
    """Read a checkpoint of an experiment, as it is or one of its subnets."""
    assert origin.exp is not None
    named = init.subnet or _of_method(stored, config, asked)
    implied = None if named or init.weights == "all" else _smaller(stored.model, config.model)
    if named is None and implied is None:
        saved = load_checkpoint(origin.path)
        tokenizer = load_tokenizer(needed(origin.exp / "lang")) if (origin.exp / "lang").exists() else None
        if init.tokenizer == "keep":
            tokenizer = load_tokenizer(needed(origin.exp / "lang"))
            check_tokenizer_of(saved, tokenizer, origin.path)
        known = None if tokenizer is None else tokenizer.fingerprint
        source = Source(_weights(saved), stored.model, build_space(stored).widths)
        return _Found(source, None, saved.get("tokenizer", known))
    experiment = Experiment.open(origin.exp, origin.checkpoint)
    subnet = implied if named is None else find_subnet(experiment, named)
    assert subnet is not None
    return _Found(_extracted(experiment, subnet), subnet, experiment.tokenizer.fingerprint)


def _of_method(stored: Config, trained: Config, asked: Config | None) -> str | None:
    """Return the subnet of method ``separate`` if the experiment is a supernet with the sizes of the recipe's."""
    if asked is None or asked.method.kind != "separate":
        return None
    # The whole of a supernet has norms of other widths, too.
    same = first_different_size(stored.model, trained.model) is None
    if same and set(build_space(stored).widths) == set(build_space(trained).widths):
        return None
    return asked.method.subnet if first_different_size(stored.model, asked.model) is None else None


def _smaller(stored: ModelConfig, trained: ModelConfig) -> Subnet | None:
    """Return the subnet of an experiment that has the sizes of the model that is trained, if that is a part of it."""
    found = subnet_of_size(stored, trained)
    return found if isinstance(found, Subnet) and found != Subnet() else None


def _extracted(experiment: Experiment, subnet: Subnet) -> Source:
    """Return a subnet of an experiment as a stand-alone model.

    Raises:
        UserError: the model cannot run it.
    """
    config = experiment.config
    loss = config.loss if experiment.model.has_training_heads else None
    try:
        return extracted(experiment.model, Outputs(loss, head_names(config)), subnet)
    except ValueError as error:
        raise UserError(f"training.init.subnet: {subnet.id} is no subnet of {experiment.dir}: {error}") from None


def _check_products(init: InitConfig, stored: Config, config: Config) -> None:
    """Check that the features and units of an experiment are those of the recipe, where the run keeps them."""
    theirs, ours = _features(stored), _features(config)
    if init.weights == "all" or init.stats == "keep":
        advice = "training.init.weights to matching and training.init.stats to own"
        _refuse(init, first_different_key(theirs, ours), advice)
    if init.tokenizer == "keep":
        _refuse(init, first_different_key(_units(stored), _units(config)), "training.init.tokenizer to own")


def _refuse(init: InitConfig, difference: str | None, keys: str) -> None:
    """Raise `UserError` if there is a difference; ``keys`` says what could be set."""
    if difference is not None:
        raise UserError(f"{KEY}: {init.from_} does not fit this recipe: {difference}; make them equal, or set {keys}")


def _features(config: Config) -> dict[str, Any]:
    """Return the keys on which the meaning of features depends, as plain data."""
    features = config.features.model_dump(mode="json", exclude={"sets", "name"})
    return {"data": {"sampling_rate": config.data.sampling_rate}, "features": features}


def _units(config: Config) -> dict[str, Any]:
    """Return the keys on which the meaning of tokens depends, as plain data."""
    keys = {"kind", "vocab_size"}
    if config.tokenizer.kind == "phonemes":
        keys |= {"lexicon", "stress"}
    return {"tokenizer": config.tokenizer.model_dump(mode="json", include=keys)}


def _weights(saved: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return renamed({name: tensor for name, tensor in saved["model"].items() if tensor.dtype != torch.bool})
