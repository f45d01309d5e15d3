"""The experiment folder is the record of a run: what was asked for, what came out, and how to load it again.

::

    exp/<name>/config.yaml         the resolved configuration, all that later stages read
               lang/               the tokenizer
               checkpoints/        epoch-003.pt, epoch-003-step-00000120.pt, best.pt
               final.pt            averaged weights, batch norms re-estimated
               data.json           which data and which tokenizer the run uses
               results.json        every subnet measured, and what made the run
               experiment.lock        while it is trained or extracted: who does it (`slimasr.locking`)
               versions.json, train.log, train_log.jsonl, bad_utterances.jsonl, tensorboard/
               search/, decode/, export/
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from slimasr.config.load import load_config, save_config
from slimasr.config.schema import Config, WidthSpaceConfig
from slimasr.data.tokenizer import Tokenizer
from slimasr.errors import UserError
from slimasr.files import copy_folder, read_json, write_atomic, write_json_atomic, writing
from slimasr.locking import file_lock
from slimasr.models.build import build_model, shrink_model_config
from slimasr.models.transducer import Transducer
from slimasr.supernet.space import SearchSpace, build_space

__all__ = [
    "Experiment",
    "change_results",
    "describe_hardware",
    "describe_versions",
    "load_checkpoint",
    "read_results",
    "resolve_separate",
    "revision",
    "update_results",
    "write_atomic",
    "write_json_atomic",
    "write_record",
]

DATA_FILE = "data.json"
UNVERIFIED = "does not name its tokenizer and data (an earlier version wrote it); that they match is not verified"
LOCK_FILE = "experiment.lock"
VERSIONED = ("slimasr", "torch", "lhotse", "k2", "numpy", "sentencepiece", "kaldialign")


@dataclass(frozen=True)
class Experiment:
    """A trained run, open for search, decoding, extraction and reports.

    Attributes:
      dir: the experiment folder.
      model: in evaluation mode, with the weights of the checkpoint.
      checkpoint: name of the checkpoint the weights come from.
      data: fingerprint of the data that the weights were trained on, None where it is not recorded.
      notes: what could not be verified, for the user.
    """

    dir: Path
    config: Config
    space: SearchSpace
    tokenizer: Tokenizer
    model: Transducer
    checkpoint: str
    data: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, exp: Path, checkpoint: str = "final") -> Experiment:
        """Load a run.

        Args:
          exp: experiment folder.
          checkpoint: ``final``, ``best``, or the name of one in ``checkpoints/`` such as ``epoch-003``.

        Raises:
          UserError: a piece is missing (the message names the stage that makes it) or does not fit the others.
        """
        config = load_config(_needed(exp / "config.yaml"))
        _needed(exp / "lang")
        tokenizer, space = Tokenizer.load(exp / "lang"), build_space(config.space)
        path = _needed(_checkpoint_path(exp, checkpoint))
        saved = load_checkpoint(path)
        check_tokenizer_of(saved, tokenizer, path)
        loss = config.loss if saved.get("training_heads", True) else None
        model = build_model(config.model, loss, tokenizer.vocab_size, space.widths)
        load_weights(model, saved["model"], path)
        notes = () if "tokenizer" in saved else (f"{path}: {UNVERIFIED}",)
        return cls(exp, config, space, tokenizer, model.eval(), checkpoint, saved.get("data"), notes)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; tensors and plain values only, never code.

    Raises:
      UserError: the file is damaged, or a weight in it is not finite.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged archive surfaces as one of many types, depending on where it is cut
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path}: damaged checkpoint ({reason[:120]})") from None
    if not isinstance(saved, dict) or "model" not in saved:
        raise UserError(f"{path}: is not a checkpoint of slimasr-train")
    check_weights(saved["model"], path)
    return saved


def check_tokenizer_of(saved: Mapping[str, Any], tokenizer: Tokenizer, path: Path) -> None:
    """Whether a checkpoint's weights were trained with this tokenizer; checkpoints without a record pass.

    Raises:
      UserError: they were trained with another one, perhaps of the same size.
    """
    made_with = saved.get("tokenizer", tokenizer.fingerprint)
    if made_with != tokenizer.fingerprint:
        raise UserError(
            f"{path}: was trained with another tokenizer ({made_with}) than the one in lang/ "
            f"({tokenizer.fingerprint}); restore the experiment's own lang/"
        )


def check_weights(weights: object, path: Path) -> None:
    """Raise `UserError` unless these are tensors by name, all their numbers finite; names the first that is not."""
    if not isinstance(weights, Mapping):
        raise UserError(f"{path}: is not a checkpoint of slimasr-train (its model is no mapping of weights)")
    for name, weight in weights.items():
        if not isinstance(weight, torch.Tensor) or weight.layout != torch.strided or weight.is_meta:
            raise UserError(f"{path}: damaged checkpoint ({name} is not a dense tensor)")
        if weight.is_quantized or bool(weight.isfinite().all()):
            continue
        found = f"{name} holds {int((~weight.isfinite()).sum())} numbers that are NaN or infinite"
        raise UserError(f"{path}: damaged checkpoint: {found}; use another checkpoint")


def load_weights(model: Transducer, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Fill the model from a checkpoint.

    Raises:
      UserError: names the first weight that does not fit or is not finite.
    """
    check_weights(weights, path)
    own = model.state_dict()
    for name in [*own, *(name for name in weights if name not in own)]:
        if name not in own or name not in weights:
            side = "the model lacks" if name not in own else "the checkpoint lacks"
            raise UserError(f"{path}: does not fit the configuration: {side} {name}")
        if own[name].shape != weights[name].shape:
            shapes = f"{tuple(weights[name].shape)} against {tuple(own[name].shape)}"
            raise UserError(f"{path}: does not fit the configuration: {name} has shape {shapes}")
        if not _same_kind(own[name].dtype, weights[name].dtype):
            kinds = f"{_dtype(weights[name])} against {_dtype(own[name])}"
            raise UserError(f"{path}: does not fit the model: {name} has numbers of type {kinds}")
    if not bool((weights["feature_std"] > 0).all()):
        raise UserError(f"{path}: damaged checkpoint: feature_std needs to be above 0")
    model.load_state_dict(dict(weights))


def _same_kind(first: torch.dtype, second: torch.dtype) -> bool:
    """Whether numbers may be copied: weights saved in half precision are loaded, those rounded to integers are not."""
    return first == second or (first.is_floating_point and second.is_floating_point)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def resolve_separate(config: Config) -> tuple[Config, str | None]:
    """The configuration that is trained, and of which subnet it is the separate baseline (its id), if of any.

    A baseline is an ordinary model of one width: the sizes of its subnet become the model's own.

    Raises:
      UserError: ``method.subnet`` is not in the space, or ``loss.auxiliary`` names a layer that it drops.
    """
    if config.method.kind != "separate":
        return config, None
    space = build_space(config.space)
    subnet = space.parse(config.method.subnet)
    if space.count() == 1:
        return config, subnet.id
    model = shrink_model_config(config.model, subnet)
    auxiliary, num_layers = config.loss.auxiliary, model.encoder.num_layers
    if auxiliary is not None and max(auxiliary.layers) > num_layers:
        raise UserError(f"loss.auxiliary.layers: {subnet.id} has {num_layers} layers, none after the {num_layers}th")
    changes = {
        "model": model,
        "space": WidthSpaceConfig(widths=[1.0]),
        "method": config.method.model_copy(update={"subnet": "1.0"}),
    }
    return config.model_copy(update=changes), subnet.id


def write_record(exp: Path, config: Config, lang: Path, facts: Mapping[str, Any]) -> None:
    """Begin the record: resolved configuration, tokenizer, versions, and ``facts`` into results.json.

    The configuration is written last: a folder that has it has the rest.
    """
    with writing(exp):
        exp.mkdir(parents=True, exist_ok=True)
    copy_folder(lang, exp / "lang")
    versions = describe_versions()
    write_json_atomic(exp / "versions.json", versions)
    made = {
        "revision": revision(),
        "versions": versions,
        "hardware": describe_hardware(),
        "seed": config.seed,
    }
    update_results(exp, {"name": config.name, "method": config.method.kind, **made, **facts})
    save_config(config, exp / "config.yaml")


def read_results(exp: Path) -> dict[str, Any]:
    """Content of results.json, empty when there is none.

    Raises:
      UserError: the file is damaged.
    """
    path = exp / "results.json"
    if not path.exists():
        return {}
    results: dict[str, Any] = read_json(path, "restore it, or remove it and run stages 4 to 7 again")
    if not all(isinstance(entry, dict) for entry in _mapping(results, "subnets", path).values()):
        raise UserError(f"{path}: damaged, every entry of subnets needs to be a mapping; restore it")
    return results


def _mapping(results: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = results.get(key, {})
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged, {key} needs to be a mapping; restore it")
    return value


def update_results(exp: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Merge values into results.json, mapping by mapping, and write it atomically; gives the merged content."""
    return change_results(exp, lambda results: _deep_merge(results, values))


def change_results(exp: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Read results.json, write what ``change`` makes of it, and return that. Other processes wait in the meantime.

    Args:
      change: returns new content, or its very argument where there is nothing to write.

    Raises:
      UserError: the file is not JSON, cannot be written, or is held by another process for too long.
    """
    with file_lock(exp / "results.json"):
        before = read_results(exp)
        after = change(before)
        if after is not before:
            write_json_atomic(exp / "results.json", after)
    return after


def describe_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on; absent ones are left out."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def describe_hardware() -> str:
    """Processor and, if there is one, accelerator: ``2 x Intel Xeon ...``."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    text = f"{os.cpu_count()} x {cpu}"
    if torch.cuda.is_available():
        text += f", {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return text


def revision() -> str | None:
    """Git revision of the code, ``-dirty`` when tracked files were changed; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _checkpoint_path(exp: Path, checkpoint: str) -> Path:
    if checkpoint == "final":
        return exp / "final.pt"
    return exp / "checkpoints" / f"{checkpoint.removesuffix('.pt')}.pt"


def _needed(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} is missing: run stage 4 (slimasr-train) first")
    return path


def _deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = _deep_merge(below, value) if both else value  # type: ignore[arg-type]
    return merged
