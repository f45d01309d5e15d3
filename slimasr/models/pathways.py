"""Pathways: block masks over the matrices of a model, one per language, and what they cut out of it (paper 5)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from slimasr.elastic.blocks import blocks_of, expand, kept_weights
from slimasr.elastic.linear import ElasticLinear
from slimasr.models.predictor import LstmPredictor
from slimasr.supernet.cost import Kept
from slimasr.supernet.pathways import PathwaySpec
from slimasr.supernet.subnet import Subnet

BUFFERS = "pathways."
"""How the names of the masks begin in the state of a model."""


def prunable_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the matrices of which a pathway may keep a part, under their names in the model.

    They are the weights of linear layers inside encoder layers and the matrices of LSTM layers of the predictor (paper
    5, section 2.1); of a matrix that holds several projections or gates, all of them together.
    """
    found: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.startswith("encoder.layers."):
            found[f"{name}.weight"] = module.get_parameter("weight")
        elif isinstance(module, nn.LSTM) and name.startswith("predictor."):
            matrices = {key: weight for key, weight in module.named_parameters() if weight.ndim == 2}
            found |= {f"{name}.{key}": weight for key, weight in matrices.items()}
    return found


class Pathways(nn.Module):
    """The masks of all pathways of a model. They keep everything at first; a training method changes them.

    Attributes:
        names: names of the pathways, in the order of the search space.
        block: outputs and inputs of a block.
        matrices: names of the masked matrices in the model, such as ``predictor.lstm.weight_ih_l0``.
    """

    def __init__(self, spec: PathwaySpec, matrices: Mapping[str, Tensor]) -> None:
        """Create masks of ones for matrices by their names in the model.

        Raises:
            ValueError: no matrix is as large as a block.
        """
        super().__init__()
        self.names = spec.names
        self.block = spec.block
        self.matrices = tuple(matrices)
        self._shapes = {name: (weight.shape[0], weight.shape[1]) for name, weight in matrices.items()}
        outputs, inputs = spec.block
        if not any(rows >= outputs and columns >= inputs for rows, columns in self._shapes.values()):
            raise ValueError(f"no matrix of the model holds a block of {outputs} outputs and {inputs} inputs")
        for name, weight in matrices.items():
            shape = (len(spec.names), *blocks_of(weight.shape, spec.block))
            self.register_buffer(_key(name), torch.ones(shape, dtype=torch.bool, device=weight.device))

    @property
    def spec(self) -> PathwaySpec:
        """Names and blocks as plain data."""
        return PathwaySpec(self.names, self.block)

    def masks(self, matrix: str) -> Tensor:
        """Return the (L, rows, columns) masks of the blocks of a matrix, in the order of `names`.

        It is the buffer itself, to read only; `set_mask` changes it.
        """
        return self.get_buffer(_key(matrix))

    def mask(self, name: str, matrix: str) -> Tensor:
        """Return the (rows, columns) mask of a pathway over the blocks of a matrix, to read only."""
        return self.masks(matrix)[self.names.index(name)]

    @torch.no_grad()
    def set_mask(self, name: str, matrix: str, mask: Tensor) -> None:
        """Replace the mask of a pathway over the blocks of a matrix."""
        self.masks(matrix)[self.names.index(name)].copy_(mask)

    def shape(self, matrix: str) -> tuple[int, int]:
        """Return the outputs and inputs of a matrix."""
        return self._shapes[matrix]

    def expanded(self, name: str) -> dict[str, Tensor]:
        """Return the (O, I) masks of the weights of a pathway, by the names of the parameters in the model.

        Each call computes them again.
        """
        return {matrix: expand(self.mask(name, matrix), self.shape(matrix), self.block) for matrix in self.matrices}

    def kept(self, name: str) -> dict[str, Kept]:
        """Return by the names of the matrices how much of each is stored for a pathway."""
        return {matrix: kept_of(self.mask(name, matrix), self.shape(matrix), self.block) for matrix in self.matrices}


def kept_of(mask: Tensor, shape: tuple[int, int], block: tuple[int, int]) -> Kept:
    """Return how much of a matrix is stored whose blocks have a mask."""
    return Kept(kept_weights(mask, shape, block), mask.numel(), block)


@torch.no_grad()
def cut_out(model: nn.Module, pathways: Pathways, name: str) -> None:
    """Turn a stand-alone copy of the whole model into a pathway: the weights that it prunes become 0.

    Args:
        model: the copy, with the parameters of the model to which the masks belong.
        pathways: the masks.
        name: the pathway.
    """
    for matrix, kept in pathways.expanded(name).items():
        model.get_parameter(matrix).masked_fill_(~kept, 0.0)
    mark_kept(model, pathways.kept(name))


def mark_kept(model: nn.Module, kept: Mapping[str, Kept]) -> None:
    """Tell the layers of a stand-alone model how much of their matrices is stored, which is what they then count.

    Args:
        model: the model.
        kept: by the names of matrices in the model (`prunable_matrices`).
    """
    for matrix, stored in kept.items():
        layer, own = _layer_of(model, matrix)
        if isinstance(layer, ElasticLinear):
            layer.kept = stored
        else:
            layer.kept[own] = stored


def marked(model: nn.Module) -> dict[str, Kept]:
    """Return what `mark_kept` has told the layers of a model, by the names of the matrices."""
    found: dict[str, Kept] = {}
    for matrix in prunable_matrices(model):
        layer, own = _layer_of(model, matrix)
        kept = layer.kept if isinstance(layer, ElasticLinear) else layer.kept.get(own)
        if kept is not None:
            found[matrix] = kept
    return found


def _layer_of(model: nn.Module, matrix: str) -> tuple[ElasticLinear | LstmPredictor, str]:
    """Return the layer that counts a matrix, and the matrix's name in its module."""
    place, _, own = matrix.rpartition(".")
    layer = model.get_submodule(place)
    if isinstance(layer, nn.LSTM):
        layer = model.get_submodule(place.rpartition(".")[0])
    assert isinstance(layer, ElasticLinear | LstmPredictor), f"{matrix} is no matrix of a linear or LSTM layer"
    return layer, own


def check_pathway(subnet: Subnet, pathways: Pathways | None) -> Pathways:
    """Return the masks of a model that has the pathway of a subnet.

    Raises:
        ValueError: it has no such pathway, or the subnet has other genes besides, for which the masks are not made.
    """
    if pathways is None or subnet.pathway not in pathways.names:
        known = "no pathways" if pathways is None else f"the pathways {', '.join(pathways.names)}"
        raise ValueError(f"pathway: there is no {subnet.pathway!r}; the model has {known}")
    if subnet != Subnet(head=subnet.head, pathway=subnet.pathway):
        raise ValueError(f"pathway: {subnet.id} has a width, a path or units besides, but masks are of the whole model")
    return pathways


def _key(matrix: str) -> str:
    # Buffer names must not contain dots.
    return matrix.replace(".", "/")
