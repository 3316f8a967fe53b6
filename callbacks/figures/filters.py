"""The weights of layers, as pictures."""

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from callbacks.figures.base import FigureCallback
from callbacks.plotting.examples import load_examples
from callbacks.plotting.filter_grid import draw_filters, draw_matrix, write_filters
from callbacks.plotting.save import figure_path, save_figure
from common.hints import nearest_names
from common.ranges import NonNegativeInt

GATES = ("input gate", "forget gate", "cell", "output gate")  # the order of torch.nn.LSTM


class Filters(FigureCallback):
    """Draws the weights of some layers, a picture each: `figures/filters.LAYER/epoch=N.png`.

    A convolution's filters are tiles: in color where they have three channels, up to 16 channels side by side, more
    by their root mean square. So are the units of a linear layer that reads whole images, or paints them; other
    matrices, an LSTM's among them, are drawn as such. The `.npz` beside a picture has the weights, by the layer's name.

    Cost: 0.2 s of drawing a layer; with `each` 3 ms a filter.

    Args:
        layers: names, with or without `encoder.`, or positions among all layers of the method; the first and the middle
            convolution of the encoder if None, or layers where it has none.
        each: also write every filter to a file of its own, with all its channels, to a folder `epoch=N`.
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(
        self, layers: list[str | int] | None = None, each: bool = False, every_n_epochs: NonNegativeInt = 10
    ):
        super().__init__(every_n_epochs)
        self.layers, self.each = layers, each

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        select_layers(self.layers, collect_weights(module))

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not trainer.is_global_zero:
            return
        weights = collect_weights(module)
        shape = tuple(load_examples(trainer, split, [0]).view.shape[1:])
        for name in select_layers(self.layers, weights):
            filters = reshape_to_filters(weights[name], shape)
            if filters is None:
                figure = draw_matrix(name, weights[name], name_gates(module, name))
            else:
                figure = draw_filters(name, filters)
            save_figure(trainer, f"filters.{name}", figure, **{name: weights[name]})
            if self.each and filters is not None:
                write_filters(filters, figure_path(trainer, f"filters.{name}").with_suffix(""))


def collect_weights(module: nn.Module) -> dict[str, np.ndarray]:
    """Collect the weights of each layer, float32: convolutions' (n, C, h, w) and matrices (n, m), in the order of the
    module."""
    return {
        name.removesuffix(".weight"): parameter.detach().float().cpu().numpy()
        for name, parameter in module.named_parameters()
        if parameter.ndim in (2, 4)
    }


def select_layers(layers: list[str | int] | None, weights: dict[str, np.ndarray]) -> list[str]:
    """Select the names of the layers asked for. Raises where there is no such layer."""
    names = list(weights)
    if layers is None:
        encoder_layers = [name for name in names if name.startswith("encoder.")]
        spatial = [name for name in encoder_layers if weights[name].ndim == 4 and weights[name].shape[-1] > 1]
        candidates = spatial if len(spatial) > 1 else encoder_layers
        return list(dict.fromkeys([candidates[0], candidates[len(candidates) // 2]]))
    return [resolve_layer(layer, names) for layer in layers]


def resolve_layer(layer: str | int, names: list[str]) -> str:
    """Turn a name, with or without `encoder.`, or a position into the name of a layer. Raises where there is none."""
    if isinstance(layer, int) and -len(names) <= layer < len(names):
        return names[layer]
    for name in names:
        if layer in (name, name.removeprefix("encoder.")):
            return name
    near = nearest_names(str(layer), names, count=5, cutoff=0)
    raise MisconfigurationException(
        f"Filters: no layer {layer!r}: give a position from 0 to {len(names) - 1}, or a name such as {', '.join(near)}"
    )


def reshape_to_filters(weight: np.ndarray, view: tuple[int, ...]) -> np.ndarray | None:
    """Reshape weights to filters (n, C, h, w).

    A convolution's are returned unchanged; those of a matrix between units and all pixels of a view (C, H, W) become an
    image for each unit. None for any other matrix.
    """
    if weight.ndim == 4:
        return weight
    if len(view) != 3 or np.prod(view) not in weight.shape:
        return None
    reads = weight.shape[1] == np.prod(view)
    return (weight if reads else weight.T).reshape(-1, *view)


def name_gates(module: nn.Module, name: str) -> tuple[str, ...]:
    """Name the blocks of rows of a matrix, if it is an LSTM's."""
    owner = module.get_submodule(name.rpartition(".")[0])
    return GATES if isinstance(owner, nn.LSTM) else ()
