from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms


class SeeThrough:
    """A batch transform that can be seen through: each image's mean colour and one draw; crops are random."""

    def __init__(self, image_size=4, crop="resized"):
        self.image_size = image_size
        self.crop = crop
        self.given = []

    def __call__(self, images, rng, cropped=False):
        self.given.append((images, cropped))
        draws = torch.from_numpy(rng.random(len(images))).float()
        means = images.float().mean((1, 2, 3)) / 255
        return (means + draws).view(-1, 1, 1, 1).expand(-1, 3, self.image_size, self.image_size)

    def worker_crop(self):
        if self.crop == "resized":
            return transforms.RandomResizedCrop(self.image_size)
        return transforms.Compose(
            [transforms.Resize((self.image_size,) * 2), transforms.RandomCrop(self.image_size, 1)]
        )


GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Writes a small image of one colour, and its folders."""

    def write(path: Path, colour: tuple[int, int, int] = (200, 100, 50), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 5), colour).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def image_folder(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """train/ with 3 cats and 2 dogs (one nested, one PNG), test/ with one of each."""
    for name in ("train/cat/1.jpg", "train/cat/2.JPEG", "train/cat/deep/er/3.png", "train/dog/1.jpg"):
        write_image(tmp_path / name)
    for name in ("train/dog/2.webp", "test/cat/9.jpg", "test/dog/9.png"):
        write_image(tmp_path / name)
    return tmp_path


@pytest.fixture
def see_through() -> type[SeeThrough]:
    return SeeThrough
