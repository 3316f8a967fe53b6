"""Class activation maps: the parts of an image that speak for a class."""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.evaluation.class_scores import LabeledScores
from callbacks.evaluation.features import eval_mode
from callbacks.figures.base import FigureCallback
from callbacks.measures.class_activation import class_activation, grad_cam, maps_and_gradients
from callbacks.measures.linear_probe import LinearProbe
from callbacks.plotting.examples import load_examples, pick_evenly
from callbacks.plotting.overlay import draw_activations
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import write_title
from common.ranges import NonNegativeInt, PositiveInt
from common.splits import SPLITS


class CAM(FigureCallback):
    """Draws the evidence for a class as light on the image, for the surest right answers and the surest mistakes.

    The maps are class activation maps if the features are the mean of the encoder's maps, else Grad-CAM; of a
    transformer with a class token, at the patches that its last attention reads. The method's
    own classifier scores the classes, or a probe does. Beside `figures/cam/epoch=N.png`, an `.npz` has for each of n
    images its `index`, `labels`, `predicted` and `original`, K `classes` (n, K), and their raw `maps` (n, K, h, w) and
    `prob` (n, K). The last `same` images are picked by class alone, so every run on these data shows them.

    Cost: 4 s to draw; a probe on the bank where there is no online probe or classifier, see Confusion.

    Args:
        classes: names or numbers of the classes whose surest right answers are drawn, with evidence for each of these
            classes; three classes if None.
        per_class: right answers for each class.
        mistakes: mistakes to draw, one for each pair of true and predicted class, with evidence for both.
        same: images of different classes that are the same in every run.
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(
        self,
        classes: list[str | NonNegativeInt] | None = None,
        per_class: PositiveInt = 2,
        mistakes: NonNegativeInt = 8,
        same: NonNegativeInt = 4,
        every_n_epochs: NonNegativeInt = 0,
    ):
        super().__init__(every_n_epochs)
        self.classes, self.per_class, self.mistakes, self.same = classes, per_class, mistakes, same

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.datamodule.task == "classification":
            resolve_classes(self.classes, trainer.datamodule.class_names)

    def draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if trainer.datamodule.task == "classification" and not hasattr(module.encoder, "maps"):
            self.skip_figure(f"{type(module.encoder).__name__} has no maps")
            return
        scored = self.score_labeled(trainer, module, split)
        if scored is not None and trainer.is_global_zero:
            self.draw_scored(trainer, module, split, scored)

    def draw_scored(
        self, trainer: Trainer, module: LightningModule, split: str, scored: LabeledScores
    ) -> None:
        """Draw evidence for the surest of the labeled examples of a split, and save it."""
        names = trainer.datamodule.class_names
        labels, index = scored.examples.labels, scored.examples.index
        prob = scored.compute_probabilities()
        main_classes = resolve_classes(self.classes, names)
        right, wrong = select_surest(prob, labels, main_classes, self.per_class, self.mistakes)
        same = pick_evenly(labels, self.same)
        rows = torch.cat([right, wrong, same])
        images = load_examples(trainer, split, index[rows].cpu())
        predicted = prob[rows].argmax(1)
        classes = list_classes_to_explain(predicted, images.labels, main_classes, len(names))  # (n, K)
        evidence = compute_evidence(trainer, module, images.view, scored.head, classes)
        if evidence is None:
            self.skip_figure(
                f"no layer of {type(module.encoder).__name__} returns its maps (B, C, h, w) or patches (B, T, C)"
            )
            return
        maps, layer = evidence
        kind = "Grad-CAM" if layer else "class activation"
        prob = prob[rows].gather(1, classes).float()
        figure = draw_activations(images, maps, classes, prob, len(right), len(wrong), names)
        size = " x ".join(map(str, maps.shape[2:]))
        subtitle = f"{SPLITS[split].capitalize()} images. Light marks the evidence, scaled for each map; "
        subtitle += f"the contour is at half of the maximum. Maps of {size} cells, enlarged."
        subtitle += f" Gradients are taken at the output of {layer}." if layer else ""
        write_title(figure, f"Where it looks: {kind} through the {scored.head_name}", subtitle)
        tensors = {"index": images.index, "labels": images.labels, "predicted": classes[:, 0]}
        tensors |= {"maps": maps, "classes": classes, "prob": prob}
        arrays = {key: tensor.cpu().numpy() for key, tensor in tensors.items()}
        arrays |= {"original": images.display, "same": np.array(len(same))}
        facts = {"split": split, "evidence": kind, "head": scored.head_name, "classes": names}
        facts |= {"layer": layer} if layer else {}
        save_figure(trainer, "cam", figure, facts=facts, **arrays)


def resolve_classes(classes: list[str | int] | None, names: list[str]) -> list[int]:
    """Turn names or numbers of classes into numbers; three that are far apart if None.

    Raises:
        MisconfigurationException: a class that the data do not have.
    """
    if classes is None:
        return sorted({k * len(names) // 3 for k in range(3)})
    for name in classes:
        if name not in names and name not in range(len(names)):
            raise MisconfigurationException(
                f"CAM: no class {name!r} in these data: give one of {', '.join(names)}, or a number below {len(names)}"
            )
    return [names.index(name) if name in names else name for name in classes]


def select_surest(
    prob: Tensor, labels: Tensor, classes: list[int], per_class: int, mistakes: int
) -> tuple[Tensor, Tensor]:
    """Select the surest right answers of each class, and the surest mistake of each pair of true and predicted class.

    Args:
        prob: probabilities (N, K).
        labels: (N,).
        classes: classes of the right answers.
        per_class: the most right answers of a class.
        mistakes: the most mistakes.

    Returns:
        Positions of the right answers, class by class, and of the mistakes, the surest first.
    """
    confidence, predicted = prob.max(1)
    order = confidence.argsort(descending=True, stable=True)
    right = order[predicted[order] == labels[order]]
    wrong = order[predicted[order] != labels[order]]
    first_of_pair = {}
    for position in wrong.tolist():
        first_of_pair.setdefault((int(labels[position]), int(predicted[position])), position)
    right_by_class = [right[labels[right] == k][:per_class] for k in classes]
    return torch.cat(right_by_class), right.new_tensor(list(first_of_pair.values())[:mistakes])


def list_classes_to_explain(
    predicted: Tensor, labels: Tensor, classes: list[int], num_classes: int
) -> Tensor:
    """List the classes (n, K) to explain for each image: the predicted one, the true one, then `classes`, each once."""
    count = min(max(2, len(classes)), num_classes)
    pairs = zip(predicted.tolist(), labels.tolist(), strict=True)
    # a dict drops repeated classes and keeps the order; the range fills up what is missing
    ranked = [dict.fromkeys([*pair, *classes, *range(num_classes)]) for pair in pairs]
    return predicted.new_tensor([list(row)[:count] for row in ranked])


def compute_evidence(
    trainer: Trainer, module: LightningModule, view: Tensor, head: LinearProbe, classes: Tensor
) -> tuple[Tensor, str | None] | None:
    """Compute maps (n, K, h, w) of the evidence for `classes` (n, K), and name the layer where gradients are taken.

    Where features are the mean of the maps, no gradients are needed, and the name is None. Returns None where there is
    no layer with maps, or with patches that features depend on.
    """
    encoder = module.encoder
    if encoder.pooled:
        with eval_mode(trainer, module):
            maps = encoder.maps(view).float()
        maps_of_all_classes = class_activation(maps, head.weight)
        index = classes[..., None, None].expand(-1, -1, *maps.shape[2:])
        return maps_of_all_classes.gather(1, index), None
    with eval_mode(trainer, module):
        maps_of_layer = maps_and_gradients(encoder, view, head.weight, classes)
    if maps_of_layer is None:
        return None
    maps, gradients, layer = maps_of_layer
    return grad_cam(maps, gradients), f"encoder.{layer}" if layer else "encoder"
