"""Labels in other forms than the array layout's: what they look like is said, and nothing is trained on them."""

import numpy as np
import pytest

from datamodules.arrays import Arrays
from datamodules.galaxy_zoo import GalaxyZoo
from tests.data_modules import set_up_data, setup_error
from tests.galaxies import write_galaxies

COUNT = 120
CLASSES = np.random.default_rng(0).permutation(np.arange(COUNT) % 10)


@pytest.fixture
def write_labels(tmp_path):
    """Writes training labels, and a classes.txt or targets.txt if asked to."""
    (tmp_path / "mine").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
    np.save(tmp_path / "mine" / "train_images.npy", images)

    def write(labels, **files) -> Arrays:
        np.save(tmp_path / "mine" / "train_labels.npy", labels)
        for name, text in files.items():
            (tmp_path / "mine" / f"{name}.txt").write_bytes(text)
        return Arrays("mine", data_dir=tmp_path)

    return write


ONE_HOT = "one-hot rows of 10 classes: write labels.argmax(1), int64 (N,)"
REFUSED = {  # labels, and what is said
    "one-hot": (np.eye(10, dtype=np.float32)[CLASSES], ONE_HOT),
    "one-hot float64": (np.eye(10)[CLASSES], ONE_HOT),
    "one-hot of whole numbers": (np.eye(10, dtype=np.uint8)[CLASSES], ONE_HOT),
    "one-hot truth values": (np.eye(10, dtype=bool)[CLASSES], ONE_HOT),
    "one-hot of -1 and 1": (2 * np.eye(10)[CLASSES] - 1, ONE_HOT),
    "one-hot, some unknown": (np.where(CLASSES[:, None] == 3, np.nan, np.eye(10)[CLASSES]), ONE_HOT),
    "a column of classes": (CLASSES[:, None], "the classes 0 ... 9: write labels[:, 0].astype('int64'), (N,)"),
    "a float column": (CLASSES[:, None].astype(float), "the classes 0 ... 9: write labels[:, 0].astype('int64')"),
    "float classes": (CLASSES.astype(np.float32), "the classes 0 ... 9: write labels.astype('int64'), (N,)"),
    "float, some unknown": (
        np.where(CLASSES == 3, np.nan, CLASSES),
        "the classes 0, 1, 2, ... 9: write np.nan_to_num(labels, nan=-1).astype('int64')",
    ),
    "numbers without an axis": (np.linspace(0, 1, COUNT), "one number an image: write labels[:, None], (N, 1)"),
    "names": (np.array(["cat", "dog"])[CLASSES % 2], "names: write np.unique(labels, return_inverse=True)[1]"),
    "from 1": (CLASSES + 1, "the 10 different labels are 1 ... 10, which would be read as 11 classes"),
    "by tens": (CLASSES * 10, "the 10 different labels are 0, 10, 20, ... 90, which would be read as 91 classes"),
    "255 for unknown": (
        np.where(CLASSES == 9, 255, CLASSES).astype(np.uint8),
        "labels are 0, 1, 2, ... 255, which would be read as 256 classes: classes count 0 ... K - 1 (-1 where unknown)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", REFUSED)
def test_a_form_is_named_with_what_to_write(write_labels, form):
    labels, says = REFUSED[form]
    assert says in setup_error(write_labels(labels))


def test_what_is_suggested_is_read_as_the_classes(write_labels):
    labels = CLASSES * 10
    for right in (
        np.eye(10)[CLASSES].argmax(1),
        (CLASSES + 1) - 1,
        np.searchsorted(np.unique(labels), labels),
    ):
        data = set_up_data(write_labels(right))
        assert data.num_classes == 10 and data.task == "classification"
        for split in data.datasets.values():
            assert np.array_equal(split.labels, CLASSES[split.rows])


def test_numbers_stay_numbers(write_labels):
    rng = np.random.default_rng(0)
    numbers = {
        "fractions of votes": rng.dirichlet(np.ones(3), COUNT),
        "several yes or no": rng.integers(0, 2, (COUNT, 3)).astype(np.float32),
        "a measure": rng.normal(size=(COUNT, 1)),
        "counts with gaps": np.repeat([[0.0], [7.0], [19.0]], 40, 0),
        "all alike": np.zeros((COUNT, 2)),
        "all unknown": np.full((COUNT, 2), np.nan),
    }
    for name, labels in numbers.items():
        assert set_up_data(write_labels(labels)).task == "regression", name


def test_named_targets_may_look_like_classes(write_labels):
    data = set_up_data(write_labels(np.eye(2)[CLASSES % 2], targets=b"left\nright\n"))
    assert data.task == "regression" and data.target_names == ["left", "right"]


def test_named_classes_may_have_gaps_and_empty_ones_are_said(write_labels, caplog, capsys):
    caplog.set_level("INFO")
    names = "".join(f"kind {k}\n" for k in range(11)).encode()
    assert set_up_data(write_labels(CLASSES + 1, classes=names)).num_classes == 11
    line = "1 of 11 classes have no training image: kind 0"
    assert line in caplog.text + capsys.readouterr().err


def test_named_classes_that_count_from_1_are_said_to(write_labels):
    names = "".join(f"kind {k}\n" for k in range(10)).encode()
    text = setup_error(write_labels(CLASSES + 1, classes=names))
    assert "labels are 0 ... 9" in text and "these count from 1: write labels - 1" in text


def test_a_class_that_only_another_split_has_is_no_gap(write_labels, tmp_path):
    for split in ("val", "test"):
        np.save(tmp_path / "mine" / f"{split}_images.npy", np.zeros((10, 8, 8, 3), np.uint8))
        np.save(tmp_path / "mine" / f"{split}_labels.npy", np.arange(10))
    assert set_up_data(write_labels(np.where(CLASSES == 3, 4, CLASSES))).num_classes == 10


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_a_byte_order_mark_is_no_part_of_the_first_name(write_labels, mark, tmp_path):
    data = set_up_data(write_labels(CLASSES % 2, classes=mark + b"cat\r\ndog\r\n"))
    assert data.class_names == ["cat", "dog"]
    (tmp_path / "mine" / "classes.txt").unlink()
    data = set_up_data(write_labels(np.random.default_rng(0).random((COUNT, 2)), targets=mark + b"x\ny\n"))
    assert data.target_names == ["x", "y"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_names_in_another_encoding_are_refused(write_labels, encoding):
    text = setup_error(write_labels(CLASSES % 2, classes="K\xe4se\nBrot\n".encode(encoding)))
    assert "classes.txt is not UTF-8" in text and "save it as UTF-8" in text


def test_a_column_of_measures_is_no_class(tmp_path):
    write_galaxies(tmp_path / "galaxyzoo")
    options = {"target": "class", "target_columns": ["Class1.1"], "stored": 16}
    assert "column Class1.1 holds numbers such as 0." in setup_error(GalaxyZoo(data_dir=tmp_path, **options))
