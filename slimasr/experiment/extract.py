"""Save a subnet as a separate experiment folder, which every other command accepts."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from slimasr.config.load import save_config
from slimasr.config.loss import standalone_loss
from slimasr.config.method import SeparateConfig
from slimasr.config.space import WidthSpaceConfig
from slimasr.errors import UserError
from slimasr.experiment import Experiment
from slimasr.experiment.checkpoints import structure_in_words
from slimasr.experiment.folder import LOCK_FILE
from slimasr.files import copy_folder, write_atomic
from slimasr.locking import folder_lock
from slimasr.models.packed import pathway_weights, weights_of
from slimasr.results.graph import GraphFile
from slimasr.results.schema import ExtractedFrom, Results
from slimasr.results.store import read_results, update_results
from slimasr.supernet.cost import Cost
from slimasr.supernet.subnet import Subnet


def extract_experiment(experiment: Experiment, subnet: Subnet, out: Path) -> Cost:
    """Write ``config.yaml``, ``final.pt``, ``lang/`` and ``results.json`` of one subnet as a stand-alone model.

    Its space has the single width 1.0, and it has only the weights of the subnet, without training-only heads. Those of
    a pathway are stored packed.

    Args:
        experiment: the experiment of the supernet.
        subnet: the subnet to extract.
        out: the new experiment folder.

    Returns:
        The cost of the stand-alone model.

    Raises:
        UserError: ``out`` already holds an experiment, or another process is writing one there.
    """
    with folder_lock(out / LOCK_FILE, "slimasr-extract", advice="choose another folder for --out"):
        return _write_extracted(experiment, subnet, out)


def _write_extracted(experiment: Experiment, subnet: Subnet, out: Path) -> Cost:
    if (out / "config.yaml").exists():
        raise UserError(f"{out} holds an experiment already: choose another folder for --out")
    model = experiment.model.extract(subnet)
    name = f"{experiment.config.name}-{subnet.id}"
    # Every other key stays as the supernet was trained with it.
    changes = {
        "name": name,
        "model": model.config,
        "loss": standalone_loss(experiment.config.loss),
        "space": WidthSpaceConfig(widths=[1.0]),
        "method": SeparateConfig(subnet="1.0"),
    }
    # Saved in memory first, so that the file itself is written at once.
    content = io.BytesIO()
    trained_on = {"tokenizer": experiment.tokenizer.fingerprint, "data": experiment.data}
    trained_on |= structure_in_words(model)
    weights = pathway_weights(experiment.model, subnet.pathway, model) if subnet.pathway else weights_of(model)
    torch.save({**weights, "training_heads": False, **trained_on}, content)
    write_atomic(out / "final.pt", content.getbuffer())
    copy_folder(experiment.dir / "lang", out / "lang")
    noted = experiment.dir / GraphFile.PLACE
    if noted.exists():
        write_atomic(out / GraphFile.PLACE, noted.read_bytes())
    origin = ExtractedFrom(experiment=experiment.config.name, checkpoint=experiment.checkpoint, subnet=subnet)
    longest = read_results(experiment.dir).longest_seconds
    update_results(out, Results(name=name, extracted_from=origin, longest_seconds=longest))
    # Last, as in training: a folder that has its configuration is complete.
    save_config(experiment.config.model_copy(update=changes), out / "config.yaml")
    return model.count()
