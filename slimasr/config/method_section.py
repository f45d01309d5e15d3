"""What the sections of all training methods have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from slimasr.config.section import Section

if TYPE_CHECKING:
    from slimasr.config.schema import Config


class MethodSection(Section):
    """What the sections of all methods have in common. A method's section also says which recipes it refuses."""

    teaches: ClassVar[bool] = False
    """Whether subnets learn from others of the same step, as ``loss.distillation`` says."""

    teaches_frames: ClassVar[bool] = False
    """Whether subnets learn frame posteriors from others of the same step, as ``loss.auxiliary`` says."""

    trains_pathways: ClassVar[bool] = False
    """Whether the method trains the pathways of ``space.kind: pathways``."""

    # Every method declares its kind again, with a default and a sentence.
    kind: str

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the outputs that the method's subnets use besides the main one and those of ``model.exits``."""
        return ()

    @property
    def switch_share(self) -> float | None:
        """Fraction of the run after which the method has chosen its subnets; None = it chooses none."""
        return None

    def check_start(self, start: Config, exp: Path) -> None:
        """Refuse the weights of another experiment with which the method cannot begin; default: it begins with any.

        Args:
            start: the configuration of that experiment.
            exp: its folder.

        Raises:
            ValueError: the message says what is wrong and what to do.
        """

    def check(self, config: Config) -> None:
        """Refuse settings that would silently have no effect."""
        if self.switch_share is not None and config.space.kind != "learnt":
            raise ValueError(f"space.kind: method {self.kind} chooses its subnets; set learnt, not {config.space.kind}")
        if config.loss.distillation is not None and not self.teaches:
            raise ValueError(f"loss.distillation: method {self.kind} has no teacher; set it to null")
        auxiliary = config.loss.auxiliary
        if auxiliary is not None and auxiliary.kl_weight and not self.teaches_frames:
            raise ValueError(f"loss.auxiliary.kl_weight: method {self.kind} has no teacher of frames; leave it out")
