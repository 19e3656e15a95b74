import numpy as np
import pytest
from PIL import Image

from deitlt.figures import cost_bars


def blue(path):
    """Share of the picture's pixels in the colour of the largest costs."""
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=int)
    return float((np.abs(pixels - [0x00, 0x72, 0xB2]).sum(axis=-1) < 12).mean())


def test_the_largest_five_are_coloured(tmp_path):
    even = cost_bars({f"part {i}": 0.1 for i in range(10)}, tmp_path / "even.png", "A step")
    five = cost_bars({f"part {i}": 0.2 for i in range(5)}, tmp_path / "five.png", "A step")
    one = cost_bars({"all of it": 1.0}, tmp_path / "one.png", "A step")
    assert 0 < blue(even) < blue(five)
    assert blue(one) > 0


@pytest.mark.parametrize("parts", [12, 40])
def test_many_small_costs_become_one_bar(tmp_path, parts):
    path = cost_bars({f"part {i}": 1 / parts for i in range(parts)}, tmp_path / "many.png", "A step")
    twelve = cost_bars({f"part {i}": 1 / 12 for i in range(12)}, tmp_path / "twelve.png", "A step")
    assert Image.open(path).height == Image.open(twelve).height
