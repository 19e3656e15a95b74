import numpy as np
import pytest
from PIL import Image

from deitlt.figures import confusion_picture


def picture(tmp_path, classes):
    images = np.random.default_rng(0).integers(0, 9, (classes, classes))
    images[0] = 0  # a class of which no image was tested
    order = np.arange(classes)
    groups = {"head": order[: classes // 2].tolist(), "tail": order[classes // 2 :].tolist()}
    path = tmp_path / "confusion.png"
    names = [f"class $ {c} with a long name" for c in range(classes)]
    assert confusion_picture(images, range(classes, 0, -1), names, groups, path, "title") == path
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_picture_of_few_or_many_classes_has_a_cell_for_each(tmp_path, classes):
    pixels = picture(tmp_path, classes)
    assert min(pixels.shape[:2]) > 800
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]


def test_too_many_classes_are_a_bug(tmp_path):
    with pytest.raises(AssertionError, match="more classes"):
        picture(tmp_path, 101)
