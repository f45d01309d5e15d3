"""The experiment folder: its configuration, checkpoints and results, and how to load them."""

from slimasr.experiment.folder import Experiment

__all__ = ["Experiment"]
