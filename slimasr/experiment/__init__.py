"""The experiment folder: what was asked for, what came out, and how to load it again."""

from slimasr.experiment.folder import Experiment

__all__ = ["Experiment"]
