"""Where does it look? The parts of an image that speak for a class."""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.evaluation.class_scores import NO_HEAD, linear_head
from callbacks.evaluation.features import Features, FeatureSet, looking
from callbacks.figures.base import Eye
from callbacks.measures.class_activation import class_activation, grad_cam, maps_and_gradients
from callbacks.measures.linear_probe import LinearProbe
from callbacks.plotting.examples import load_examples, pick_evenly
from callbacks.plotting.overlay import draw_activations
from callbacks.plotting.save import save_figure
from callbacks.plotting.style import write_title
from common.splits import SPLITS


class CAM(Eye):
    """Spotlights on what speaks for a class, for the surest right answers and the surest mistakes.

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
            chosen_classes(self.classes, trainer.datamodule.class_names)

    def look(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        data = trainer.datamodule
        if data.task != "classification":
            return self.skip("the data have no classes")
        if not hasattr(module.encoder, "maps"):
            return self.skip(f"{type(module.encoder).__name__} has no maps")
        seen = Features.of(trainer).split(trainer).labeled()
        if not len(seen.labels):
            return self.skip(f"no example of {split} has a label")
        if (found := linear_head(trainer, module)) is None:
            return self.skip(NO_HEAD)
        head, name = found
        if trainer.is_global_zero:
            self.picture(trainer, module, split, seen, head, name)
        return None

    def picture(
        self,
        trainer: Trainer,
        module: LightningModule,
        split: str,
        seen: FeatureSet,
        head: LinearProbe,
        name: str,
    ) -> None:
        """Of examples `seen` in a split, by the scores of a head of that name."""
        names = trainer.datamodule.class_names
        prob = head.scores(seen.features).double().softmax(1)  # (N, K)
        chosen = chosen_classes(self.classes, names)
        right, wrong = pick(prob, seen.labels, chosen, self.per_class, self.mistakes)
        rows = torch.cat([right, wrong, pick_evenly(seen.labels, self.same)])
        shown = load_examples(trainer, split, seen.index[rows].cpu())
        classes = asked(prob[rows].argmax(1), shown.labels, chosen, len(names))  # (n, K)
        found = evidence(trainer, module, shown.view, head, classes)
        if found is None:
            return self.skip(f"no layer of {type(module.encoder).__name__} puts out its maps (B, C, h, w)")
        maps, kind = found
        prob = prob[rows].gather(1, classes).float()
        figure = draw_activations(shown, maps, classes, prob, len(right), len(wrong), names)
        size = " x ".join(map(str, maps.shape[2:]))
        under = f"{SPLITS[split].capitalize()} images. The light falls where the evidence is, each on its own scale; "
        under += f"the contour is at half of the maximum. Maps of {size} cells, enlarged."
        write_title(figure, f"Where it looks: {kind} through the {name}", under)
        columns = {"index": shown.index, "labels": shown.labels, "predicted": classes[:, 0]}
        columns |= {"maps": maps, "classes": classes, "prob": prob}
        arrays = {key: column.cpu().numpy() for key, column in columns.items()}
        arrays |= {"original": shown.display, "same": np.array(len(rows) - len(right) - len(wrong))}
        facts = {"split": split, "evidence": kind, "head": name, "classes": names}
        return save_figure(trainer, "cam", figure, facts=facts, **arrays)


def chosen_classes(classes: list[str | int] | None, names: list[str]) -> list[int]:
    """Names or numbers of classes -> numbers; three that are far apart if None."""
    if classes is None:
        return sorted({k * len(names) // 3 for k in range(3)})
    for given in classes:
        if given not in names and given not in range(len(names)):
            raise MisconfigurationException(
                f"CAM: no class {given!r} in these data: give one of {', '.join(names)}, or a number below {len(names)}"
            )
    return [names.index(given) if given in names else given for given in classes]


def pick(
    prob: Tensor, labels: Tensor, classes: list[int], per_class: int, mistakes: int
) -> tuple[Tensor, Tensor]:
    """Probabilities (N, K) and labels (N,) -> positions of the surest right answers, class by class, and of the surest
    mistakes, the surest first and each pair of true and predicted class once."""
    sure, predicted = prob.max(1)
    order = sure.argsort(descending=True, stable=True)
    right = order[predicted[order] == labels[order]]
    wrong = order[predicted[order] != labels[order]]
    first = {}
    for position in wrong.tolist():
        first.setdefault((int(labels[position]), int(predicted[position])), position)
    of_classes = [right[labels[right] == k][:per_class] for k in classes]
    return torch.cat(of_classes), right.new_tensor(list(first.values())[:mistakes])


def asked(predicted: Tensor, labels: Tensor, chosen: list[int], num_classes: int) -> Tensor:
    """Which classes to show evidence for (n, K): the predicted one, the true one, then the chosen, each once."""
    count = min(max(2, len(chosen)), num_classes)
    others = [*chosen, *range(num_classes)]
    rows = zip(predicted.tolist(), labels.tolist(), strict=True)
    return predicted.new_tensor([list(dict.fromkeys([*row, *others]))[:count] for row in rows])


def evidence(
    trainer: Trainer, module: LightningModule, view: Tensor, head: LinearProbe, classes: Tensor
) -> tuple[Tensor, str] | None:
    """Maps (n, K, h, w) of the evidence for `classes` (n, K), and what they are called."""
    encoder = module.encoder
    with looking(trainer, module):
        if encoder.pooled:
            found = encoder.maps(view).float()
        else:
            found = maps_and_gradients(encoder, view, head.weight, classes)
    if encoder.pooled:
        every = class_activation(found, head.weight)
        return every.gather(1, classes[..., None, None].expand(-1, -1, *every.shape[2:])), "class activation"
    return None if found is None else (grad_cam(*found), "Grad-CAM")
