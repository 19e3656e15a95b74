import numpy as np
import pytest

from deitlt.engine.examples import operation_examples
from deitlt.reports.image_figures import image_grid
from deitlt.transforms import IMAGENET, batch_transform


@pytest.fixture
def picture():
    across, down = np.meshgrid(np.linspace(0, 255, 40), np.linspace(0, 255, 30))
    return np.stack([across, down, np.sin(across / 20) * 100 + 128], axis=-1).astype(np.uint8)


@pytest.fixture
def examples(picture):
    return operation_examples(batch_transform(32, IMAGENET, crop="padded"), picture, views=3)


def test_all_operations_are_beside_timms_and_alike(examples):
    operations, wholes = examples[:15], examples[15:]
    assert len({example.caption.split()[0] for example in operations}) == 15
    for example in operations:
        timm, device, apart = example.pictures.values()
        assert timm.shape == device.shape == (32, 32, 3)
        limit = 8 if example.caption.startswith("Rotate") else 1
        assert np.abs(timm.astype(int) - device).max() <= limit, example.caption
        assert apart.max() <= limit * 8 / 255 + 1e-6
    assert [len(example.pictures) for example in wholes] == [2, 2, 2]
    assert not np.array_equal(*wholes[0].pictures.values())


def test_the_argument_is_the_mean_strength(examples):
    captions = {example.caption for example in examples}
    assert {"Invert", "Equalize", "AutoContrast"} <= captions
    assert {"PosterizeIncreasing 1", "SolarizeIncreasing 26", "SolarizeAdd 99"} <= captions
    assert {"Rotate -27", "Rotate 27"} & captions


def test_the_page_is_drawn(examples):
    figure = image_grid(examples, "RandAugment")
    assert len(figure.axes) == sum(len(example.pictures) for example in examples)
