"""What do its layers look for? Their weights, as pictures."""

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from callbacks.figures.base import Eye
from callbacks.plotting.examples import load_examples
from callbacks.plotting.filter_grid import draw_filters, draw_matrix, write_filters
from callbacks.plotting.save import figure_path, save_figure
from common.hints import nearest_names

GATES = ("input gate", "forget gate", "cell", "output gate")  # the order of torch.nn.LSTM


class Filters(Eye):
    """The weights of some layers, a picture each: `figures/filters.LAYER/epoch=N.png`.

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

    def __init__(self, layers: list[str | int] | None = None, each: bool = False, every_n_epochs: int = 10):
        super().__init__(every_n_epochs)
        self.layers, self.each = layers, each

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        choose(self.layers, weights_of(module))

    def look(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not trainer.is_global_zero:
            return
        weights = weights_of(module)
        shape = tuple(load_examples(trainer, split, [0]).view.shape[1:])
        for name in choose(self.layers, weights):
            filters = as_filters(weights[name], shape)
            if filters is None:
                figure = draw_matrix(name, weights[name], gates_of(module, name))
            else:
                figure = draw_filters(name, filters)
            save_figure(trainer, f"filters.{name}", figure, **{name: weights[name]})
            if self.each and filters is not None:
                write_filters(filters, figure_path(trainer, f"filters.{name}").with_suffix(""))


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """Layer -> its weights, float32: convolutions' (n, C, h, w) and matrices (n, m), in the order of the module."""
    return {
        name.removesuffix(".weight"): parameter.detach().float().cpu().numpy()
        for name, parameter in module.named_parameters()
        if parameter.ndim in (2, 4)
    }


def choose(layers: list[str | int] | None, weights: dict[str, np.ndarray]) -> list[str]:
    """Names of the layers asked for. Raises where there is no such layer."""
    names = list(weights)
    if layers is None:
        own = [name for name in names if name.startswith("encoder.")]
        spatial = [name for name in own if weights[name].ndim == 4 and weights[name].shape[-1] > 1]
        of = spatial if len(spatial) > 1 else own
        return list(dict.fromkeys([of[0], of[len(of) // 2]]))
    chosen = []
    for given in layers:
        found = [name for name in names if given in (name, name.removeprefix("encoder."))]
        if isinstance(given, int) and -len(names) <= given < len(names):
            found = [names[given]]
        if not found:
            near = nearest_names(str(given), names, count=5, cutoff=0)
            raise MisconfigurationException(
                f"Filters: no layer {given!r}: give a position from 0 to {len(names) - 1}, or a name such as "
                f"{', '.join(near)}"
            )
        chosen.append(found[0])
    return chosen


def as_filters(weight: np.ndarray, view: tuple[int, ...]) -> np.ndarray | None:
    """Weights as filters (n, C, h, w): a convolution's as they are, those of a matrix between units and all pixels of a
    view (C, H, W) as an image a unit; None where it is no such matrix."""
    if weight.ndim == 4:
        return weight
    if len(view) != 3 or np.prod(view) not in weight.shape:
        return None
    reads = weight.shape[1] == np.prod(view)
    return (weight if reads else weight.T).reshape(-1, *view)


def gates_of(module: nn.Module, name: str) -> tuple[str, ...]:
    """What blocks of rows of a matrix are called, if it is an LSTM's."""
    owner = module.get_submodule(name.rpartition(".")[0])
    return GATES if isinstance(owner, nn.LSTM) else ()
