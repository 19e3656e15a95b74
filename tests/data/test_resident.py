import numpy as np
import pytest
import torch
from PIL import Image

from deitlt.data import resident
from deitlt.data.resident import load_resident, one_size
from deitlt.data.sources import ArrayImages, FileImages, Subset
from deitlt.errors import ConfigError

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (2500, 3, 4, 3), dtype=np.uint8)
ARRAYS = ArrayImages(PIXELS, np.arange(2500) % 3)


@pytest.fixture
def memory(monkeypatch):
    """Says how many bytes a device has left."""
    return lambda free: monkeypatch.setattr(resident, "free_memory", lambda device: free)


def files(folder, *sizes):
    paths = [folder / f"{number}.png" for number in range(len(sizes))]
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        Image.new("RGB", size, (number, 0, 0)).save(path)
    return FileImages(paths, [0] * len(paths))


@pytest.mark.parametrize("choice", ["auto", True])
def test_all_images_are_held_in_their_order(choice):
    found = load_resident(Subset(ARRAYS, np.arange(2400)), choice, CPU)
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.from_numpy(PIXELS[:2400]).permute(0, 3, 1, 2))


def test_files_of_one_size_are_decoded(tmp_path):
    found = load_resident(files(tmp_path, (5, 4), (5, 4), (5, 4)), "auto", CPU)
    assert found.shape == (3, 3, 4, 5)
    assert found[:, 0].flatten(1).unique(dim=1).flatten().tolist() == [0, 1, 2]


def test_nothing_is_held_that_shall_not_be():
    assert load_resident(ARRAYS, False, CPU) is None


def test_images_of_differing_sizes_are_streamed_or_refused(tmp_path):
    source = files(tmp_path, (5, 4), (5, 4), (4, 5))
    assert load_resident(source, "auto", CPU) is None
    with pytest.raises(ConfigError, match=r"these differ; type data\.resident=false"):
        load_resident(source, True, CPU)


def test_auto_leaves_three_quarters_of_the_memory(memory):
    needed = 2500 * 36
    memory(4 * needed)
    assert load_resident(ARRAYS, "auto", CPU) is not None
    memory(4 * needed - 1)
    assert load_resident(ARRAYS, "auto", CPU) is None
    assert load_resident(ARRAYS, True, CPU) is not None
    memory(needed - 1)
    with pytest.raises(ConfigError, match=r"0\.0 GiB are free there; type data\.resident=false"):
        load_resident(ARRAYS, True, CPU)


def test_another_word_is_refused():
    with pytest.raises(ConfigError, match=r"data\.resident=yes is no choice; type =auto, =true or =false\."):
        load_resident(ARRAYS, "yes", CPU)


def test_arrays_are_known_to_be_of_one_size_and_files_are_not(tmp_path):
    assert one_size(Subset(ARRAYS, [1, 2]))
    assert not one_size(files(tmp_path, (5, 4)))
