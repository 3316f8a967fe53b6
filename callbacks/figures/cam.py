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
from common.splits import SPLITS


class CAM(FigureCallback):
    """Draws light on what speaks for a class, for the surest right answers and the surest mistakes.

    Class activation maps where features are the mean of maps, Grad-CAM where maps are read otherwise. Classes are
    scored by the method's own classifier, or by a probe. Beside `figures/cam/epoch=N.png`, an `.npz` has of each image
    `index`, `labels`, `predicted`, `original`, and for K `classes` (n, K) raw `maps` (n, K, h, w) and `prob` (n, K).
    The last `same` of them are chosen by class alone: every run on these data shows them.

    Cost: 4 s, of drawing; without an online probe or classifier also a probe on the bank, see Confusion.

    Args:
        classes: whose surest images are shown, with evidence for each of them; names or numbers, three if None.
        per_class: right answers for each.
        mistakes: of any classes, no two of which confuse the same pair; with evidence for the answer and for the truth.
        same: images of different classes that are the same in every run.
        every_n_epochs: 0 for the last epoch only.
    """

    def __init__(
        self,
        classes: list[str | int] | None = None,
        per_class: int = 2,
        mistakes: int = 8,
        same: int = 4,
        every_n_epochs: int = 0,
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
        classes = list_classes_to_explain(
            prob[rows].argmax(1), images.labels, main_classes, len(names)
        )  # (n, K)
        maps_and_kind = compute_evidence(trainer, module, images.view, scored.head, classes)
        if maps_and_kind is None:
            self.skip_figure(f"no layer of {type(module.encoder).__name__} puts out its maps (B, C, h, w)")
            return
        maps, kind = maps_and_kind
        prob = prob[rows].gather(1, classes).float()
        figure = draw_activations(images, maps, classes, prob, len(right), len(wrong), names)
        size = " x ".join(map(str, maps.shape[2:]))
        under = f"{SPLITS[split].capitalize()} images. The light falls where the evidence is, each on its own scale; "
        under += f"the contour is at half of the maximum. Maps of {size} cells, enlarged."
        write_title(figure, f"Where it looks: {kind} through the {scored.head_name}", under)
        columns = {"index": images.index, "labels": images.labels, "predicted": classes[:, 0]}
        columns |= {"maps": maps, "classes": classes, "prob": prob}
        arrays = {key: column.cpu().numpy() for key, column in columns.items()}
        arrays |= {"original": images.display, "same": np.array(len(same))}
        facts = {"split": split, "evidence": kind, "head": scored.head_name, "classes": names}
        save_figure(trainer, "cam", figure, facts=facts, **arrays)


def resolve_classes(classes: list[str | int] | None, names: list[str]) -> list[int]:
    """Turn names or numbers of classes into numbers; three that are far apart if None. Raises where there is no such
    class."""
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
    """Select the surest right answers, class by class, and the surest mistakes, each pair of true and predicted class
    once.

    Args:
        prob: probabilities (N, K).
        labels: (N,).
        classes: of the right answers.
        per_class: right answers for each, at most.
        mistakes: at most.

    Returns:
        Positions of the right answers and of the mistakes, the surest first.
    """
    confidence, predicted = prob.max(1)
    order = confidence.argsort(descending=True, stable=True)
    right = order[predicted[order] == labels[order]]
    wrong = order[predicted[order] != labels[order]]
    first_of_pair = {}
    for position in wrong.tolist():
        first_of_pair.setdefault((int(labels[position]), int(predicted[position])), position)
    of_classes = [right[labels[right] == k][:per_class] for k in classes]
    return torch.cat(of_classes), right.new_tensor(list(first_of_pair.values())[:mistakes])


def list_classes_to_explain(
    predicted: Tensor, labels: Tensor, classes: list[int], num_classes: int
) -> Tensor:
    """List the classes to show evidence for (n, K): the predicted one, the true one, then `classes`, each once."""
    count = min(max(2, len(classes)), num_classes)
    others = [*classes, *range(num_classes)]
    rows = zip(predicted.tolist(), labels.tolist(), strict=True)
    return predicted.new_tensor([list(dict.fromkeys([*row, *others]))[:count] for row in rows])


def compute_evidence(
    trainer: Trainer, module: LightningModule, view: Tensor, head: LinearProbe, classes: Tensor
) -> tuple[Tensor, str] | None:
    """Compute maps (n, K, h, w) of the evidence for `classes` (n, K), and say what they are called.

    None where no layer puts out the encoder's maps.
    """
    encoder = module.encoder
    if encoder.pooled:
        with eval_mode(trainer, module):
            maps = encoder.maps(view).float()
        of_all_classes = class_activation(maps, head.weight)
        columns = classes[..., None, None].expand(-1, -1, *maps.shape[2:])
        return of_all_classes.gather(1, columns), "class activation"
    with eval_mode(trainer, module):
        maps_with_gradients = maps_and_gradients(encoder, view, head.weight, classes)
    return None if maps_with_gradients is None else (grad_cam(*maps_with_gradients), "Grad-CAM")
