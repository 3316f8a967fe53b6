"""Every number in a signature that a config can fill has a range; what is outside it is refused in one line."""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
import yaml
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.loggers import Logger
from torch import nn

from callbacks.figures.latents import Latents
from callbacks.figures.reconstructions import Reconstructions
from common import ranges
from common.ranges import (
    HalfTurn,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Seed,
    ShareBelowOne,
    UnitInterval,
)
from datamodules.augmentation.recipe import Recipe
from launch.parser import Parser, list_inner_types
from tests.conftest import command_line
from tests.errors import read_only_error
from tests.figure_runs import find_case, fit_case
from tests.test_house import DIGITS, ROOT

pytestmark = pytest.mark.usefixtures("untouched_process")

ROOMS = ("callbacks", "datamodules", "ssl_modules")
NAMEABLE = (nn.Module, LightningDataModule, Callback, Logger)  # what a config can name
ANY_NUMBER = {
    "Filters.layers",  # -1 is the last one
    "ImageDataModule.groups",  # a class may be called by any number
}


def list_parameters() -> Iterator[tuple[type, str, Any]]:
    """Constructor parameters of all classes of the project that a config can name, and of the dataclasses in them."""
    waiting = []
    for room in ROOMS:
        for module in pkgutil.walk_packages([str(ROOT / room)], f"{room}."):
            classes = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
            waiting += [c for _, c in classes if c.__module__ == module.name and issubclass(c, NAMEABLE)]
    for cls in waiting:
        if "__init__" in vars(cls):
            for name, hint in get_type_hints(cls.__init__).items():
                if name != "return":
                    yield cls, name, hint
                    dataclasses = [inner for inner in list_inner_types(hint) if is_dataclass(inner)]
                    waiting += [inner for inner in dataclasses if inner not in waiting]


def list_ranges(hint: Any) -> list[type]:
    """The types of numbers in a type, with or without a range."""
    inner_types = [inner for inner in list_inner_types(hint) if inspect.isclass(inner)]
    return [inner for inner in inner_types if issubclass(inner, int | float) and inner is not bool]


NUMBERS = {
    f"{cls.__name__}.{name}": (cls, name, hint) for cls, name, hint in list_parameters() if list_ranges(hint)
}


def test_the_walk_finds_the_classes_of_all_rooms():
    for key in ("SimCLR.temperature", "KNN.k", "Recipe.scale", "ImageDataModule.val_size", "ViT.depth"):
        assert key in NUMBERS
    assert len(NUMBERS) > 150


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_in_a_signature_has_a_range(key):
    assert bool({int, float} & {*list_ranges(NUMBERS[key][2])}) == (key in ANY_NUMBER)


def write_number(hint: Any, number: float) -> str:
    """YAML of a value of some type that has a number where the type has one: in a list or tuple, too."""
    for inner in list_inner_types(hint):
        if get_origin(inner) in (list, tuple):
            count = len([part for part in get_args(inner) if part is not Ellipsis])
            return f"[{', '.join([write_number(None, number)] * count)}]"
    return yaml.safe_dump(number).split()[0]


@pytest.fixture(scope="module")
def parser():
    """Of the command line, for one thing that a config may name."""
    parser = Parser()
    parser.add_argument("--thing", type=Union[*NAMEABLE, Recipe])
    return parser


@pytest.mark.parametrize("key", [key for key in NUMBERS if key not in ANY_NUMBER])
def test_a_number_out_of_its_range_is_refused_in_one_line(key, parser, capsys):
    cls, name, hint = NUMBERS[key]
    words = [kind.__doc__[1:-1] for kind in list_ranges(hint)]
    for number in (-1, math.nan, math.inf):
        if number == -1 and ranges.FiniteFloat in list_ranges(hint):
            continue
        option = f"--thing.init_args.{name}={write_number(hint, number)}"
        with pytest.raises(SystemExit):
            parser.parse_args([f"--thing={cls.__module__}.{cls.__name__}", option])
        out, err = capsys.readouterr()
        assert out == "" and err.startswith(f"error: {name} is ") and err.count("\n") == 1, err
        assert str(number) in err and all(range_words in err for range_words in words), err


READ = [  # type, as written, as read
    (PositiveInt, "3", 3),
    (PositiveFloat, "3", 3.0),
    (PositiveFloat, "1e-3", 0.001),  # YAML 1.1 reads it as text
    (PositiveFloat, "'0.5'", 0.5),
    (HalfTurn, "180", 180.0),
    (Seed, str(2**32 - 1), 2**32 - 1),
    (PositiveInt | None, "null", None),
    (PositiveInt | None, "3", 3),
    (NonNegativeInt | ShareBelowOne, "500", 500),
    (NonNegativeInt | ShareBelowOne, "0", 0),
    (NonNegativeInt | ShareBelowOne, "0.1", 0.1),
    (list[PositiveInt] | None, "[1, 2]", [1, 2]),
    (tuple[PositiveInt, ...], "[1, 2]", (1, 2)),
    (tuple[PositiveShare, PositiveShare], "[0.2, 1]", (0.2, 1.0)),
]


@pytest.mark.parametrize("hint, text, expected", READ, ids=str)
def test_a_number_is_read_as_a_plain_one_and_written_as_such(hint, text, expected):
    parser = Parser()
    parser.add_argument("--x", type=hint)
    parsed = parser.parse_string(f"x: {text}")
    assert parsed.x == expected and repr(parsed.x) == repr(expected)
    dumped = parser.dump(parsed, skip_none=False)
    written = yaml.safe_load(dumped)["x"]
    assert repr(written) == repr(list(expected) if isinstance(expected, tuple) else expected)
    assert parser.parse_string(dumped).x == expected


REFUSED = [
    *((PositiveInt, text) for text in ("0", "3.0", "3.5", "1e3", "true", "many", "[1]", "null")),
    *((PositiveFloat, text) for text in ("0", "1e400", str(10**400), ".inf", "true", "warm")),
    *((NonNegativeInt | ShareBelowOne, text) for text in ("1.0", "-0.1", "500.0", ".nan")),
    *((UnitInterval, text) for text in ("1.0001", "-1e-9")),
    *((OpenUnitInterval, text) for text in ("0", "1")),
    (Seed, str(2**32)),
    (tuple[PositiveShare, PositiveShare], "[0.2, 1.1]"),
]


@pytest.mark.parametrize("hint, text", REFUSED, ids=str)
def test_what_is_no_number_of_the_range_is_refused(hint, text, capsys):
    parser = Parser()
    parser.add_argument("--x", type=hint)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--x={text}"])
    assert capsys.readouterr().err.startswith("error: x is ")


KNN_0 = {"class_path": "callbacks.evaluation.knn.KNN", "init_args": {"temperature": 0}}
SILENT = {  # what trained, or failed late, before numbers had ranges: what the line must say
    "--model.temperature -0.1": ("temperature is -0.1", "model.temperature in the command line"),
    "--model.encoder.widths [64,0,8]": ("widths is 0", "model.encoder.widths.1"),
    "--data.batch_size -1": ("batch_size is -1",),
    "--trainer.check_val_every_n_epoch 0": ("check_val_every_n_epoch is 0",),
    "--trainer.accumulate_grad_batches 0": ("accumulate_grad_batches is 0",),
    "--trainer.log_every_n_steps 0": ("log_every_n_steps is 0",),
    "--trainer.gradient_clip_val -1": ("gradient_clip_val is -1", "a finite number from 0 up"),
    "--trainer.limit_train_batches nan": ("limit_train_batches is nan",),
    "--data.val_size nan": ("val_size is nan", "a whole number from 0 up or a number from 0 to below 1"),
    "--data.views [{scale: [.nan, 1]}, {}]": ("scale is nan", "data.views.0.scale.0"),
    f"--trainer.callbacks+ {yaml.safe_dump([KNN_0], default_flow_style=True).strip()}": (
        "temperature is 0: give a finite number above 0",
        "trainer.callbacks+.0.init_args.temperature",
    ),
}


@pytest.mark.parametrize("option", SILENT)
def test_the_command_line_says_which_number_is_out_of_range(option, tmp_path, capsys):
    error = read_only_error(capsys, "fit", "--config", DIGITS, "--runs_dir", tmp_path, *option.split(" ", 1))
    assert all(words in error for words in SILENT[option]), error
    assert not list(tmp_path.iterdir())


def test_a_file_with_a_number_out_of_range_is_named(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(DIGITS.read_text().replace("temperature: 0.3", "temperature: .nan"))
    error = read_only_error(capsys, "fit", "--config", path)
    assert (
        error
        == f"error: temperature is nan: give a finite number above 0 (model.init_args.temperature in {path})\n"
    )


def test_help_names_the_ranges(capsys):
    assert command_line("fit", "--model.help", "ssl_modules.dino.DINO") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "(type: PositiveInt, default: 4096)" in text and "tuple[PositiveFloat, PositiveFloat]" in text


@pytest.mark.parametrize("figure", [Reconstructions, Latents])
def test_positions_that_no_example_has_are_said_and_draw_nothing(figure, data_dir, tmp_path):
    callback = figure(positions=(10**6,))
    fit_case(find_case("VAE"), data_dir, tmp_path, callback)
    assert callback.skip_reason == "validation has no example at the positions [1000000]"
