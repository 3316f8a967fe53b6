"""What tests of data modules share: one is set up as a Trainer does it, or refuses in one line."""

from types import SimpleNamespace

import torch

from datamodules.augmentation.augment import Recipe
from datamodules.galaxy_zoo import GalaxyZoo
from tests.errors import refused_in_one_line
from tests.galaxies import write_galaxies

CROP = Recipe(scale=(0.5, 1.0), ratio=(0.75, 1.33))
CPU = torch.device("cpu")


def make_galaxies(folder, **options):
    write_galaxies(folder / "galaxyzoo")
    return GalaxyZoo(data_dir=folder, stored=16, target="question 1", **options)


def set_up_data(data, training=False, rank=0, world=1):
    """Set a data module up as a Trainer does."""
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        training=training,
        current_epoch=0,
        fit_loop=SimpleNamespace(
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=0)))
        ),
    )
    data.prepare_data()
    data.setup("fit")
    return data


def transfer_batch(data, stored):
    return data.transfer_batch_to_device(stored, CPU, 0)


def setup_error(data):
    with refused_in_one_line() as error:
        set_up_data(data)
    return str(error.value)
