"""The baseline of every paper: one model of one size, trained alone."""

from __future__ import annotations

from slimasr.config.method import SeparateConfig
from slimasr.config.schema import Config
from slimasr.config.space import WidthSpaceConfig
from slimasr.data.batches.batch import Batch
from slimasr.errors import UserError
from slimasr.methods.base import Method, Pass, StepContext
from slimasr.models.build import shrink_model_config
from slimasr.supernet.build import build_space


class Separate(Method):
    """Trains the max subnet of a space that has only this one, because the model is built at the subnet's size."""

    @classmethod
    def resolve(cls, config: Config) -> tuple[Config, str | None]:
        """Turn the recipe of a supernet into that of an ordinary model with the sizes of one of its subnets.

        Raises:
            UserError: ``method.subnet`` is not in the space, or ``loss.auxiliary`` names a layer that it drops.
        """
        assert isinstance(config.method, SeparateConfig)
        space = build_space(config)
        subnet = space.parse(config.method.subnet)
        # The only subnet is the whole model, or this configuration has been resolved before.
        if space.count() == 1:
            return config, subnet.id
        model = shrink_model_config(config.model, subnet)
        auxiliary = config.loss.auxiliary
        num_layers = model.encoder.num_layers
        if auxiliary is not None and max(auxiliary.layers, default=0) > num_layers:
            raise UserError(
                f"loss.auxiliary.layers: {subnet.id} has {num_layers} layers, none after the {num_layers}th"
            )
        # Of the small model, the subnet is the whole network.
        changes = {
            "model": model,
            "space": WidthSpaceConfig(widths=[1.0]),
            "method": config.method.model_copy(update={"subnet": "1.0"}),
        }
        return config.model_copy(update=changes), subnet.id

    def plan(self, batch: Batch, context: StepContext) -> list[Pass]:
        return [Pass(self.space.max, self.losses)]
