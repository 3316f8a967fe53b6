"""What SupCon refuses to learn from."""

import numpy as np
import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ssl_modules.supcon import SupCon
from tests.methods import Case, build, train
from tests.test_methods import tiny

SUPCON = Case(SupCon, {"hidden_dim": 16, "out_dim": 8}, reads_labels=True, sizes=(16, 16))


@pytest.mark.parametrize(
    "labels, words",
    [
        (
            np.random.default_rng(0).random((96, 2), dtype=np.float32),
            "reads classes, which the labels of Arrays are not",
        ),
        (np.full(96, -1), "reads labels, and no training image of Arrays has one"),
    ],
)
def test_labels_that_are_no_classes_are_refused(own_dir, tmp_path, labels, words):
    folder = own_dir / "tiny"
    np.save(folder / "train_labels.npy", labels)
    if labels.ndim == 2:
        np.save(folder / "test_labels.npy", labels[:32])
        (folder / "classes.txt").unlink()
        (folder / "targets.txt").write_text("one\ntwo\n")
    with pytest.raises(MisconfigurationException, match=words):
        train(build(SUPCON), tiny(own_dir, SUPCON), tmp_path)
