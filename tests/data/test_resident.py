import numpy as np
import pytest
import torch
from PIL import Image

from deitlt.data import resident
from deitlt.data.images import ArrayImages, FileImages, Subset
from deitlt.data.resident import choose_resident, load_resident
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


def test_all_images_are_held_in_their_order():
    source = Subset(ARRAYS, np.arange(2400))
    assert choose_resident(source, "auto", CPU)
    assert choose_resident(source, True, CPU)
    found = load_resident(source, CPU)
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.from_numpy(PIXELS[:2400]).permute(0, 3, 1, 2))


def test_files_of_one_size_are_decoded(tmp_path):
    source = files(tmp_path, (5, 4), (5, 4), (5, 4))
    assert choose_resident(source, "auto", CPU)
    found = load_resident(source, CPU)
    assert found.shape == (3, 3, 4, 5)
    assert found[:, 0].flatten(1).unique(dim=1).flatten().tolist() == [0, 1, 2]


def test_nothing_is_held_that_shall_not_be():
    assert not choose_resident(ARRAYS, False, CPU)


def test_images_of_differing_sizes_are_streamed_or_refused(tmp_path):
    source = files(tmp_path, (5, 4), (5, 4), (4, 5))
    assert not choose_resident(source, "auto", CPU)
    for ask in (lambda: choose_resident(source, True, CPU), lambda: load_resident(source, CPU)):
        with pytest.raises(ConfigError, match=r"these differ; type data\.resident=false"):
            ask()


def test_auto_leaves_three_quarters_of_the_memory(memory):
    needed = 2500 * 36
    memory(4 * needed)
    assert choose_resident(ARRAYS, "auto", CPU)
    memory(4 * needed - 1)
    assert not choose_resident(ARRAYS, "auto", CPU)
    assert choose_resident(ARRAYS, True, CPU)
    memory(needed - 1)
    with pytest.raises(ConfigError, match=r"0\.0 GiB are free there; type data\.resident=false"):
        choose_resident(ARRAYS, True, CPU)


def test_another_word_is_refused():
    with pytest.raises(ConfigError, match=r"data\.resident=yes is no choice; type =auto, =true or =false\."):
        choose_resident(ARRAYS, "yes", CPU)
