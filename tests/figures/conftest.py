import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image


@pytest.fixture
def pixels():
    """Reads a picture as [H, W, 3]."""
    return lambda path: np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, in order, to look into."""
    figures, save = [], Figure.savefig

    def remember(self, *args, **options):
        figures.append(self)
        return save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


@pytest.fixture
def long_tail():
    """Counts, names and groups of a long tail of so many classes, in no order of frequency."""

    def make(classes, largest=1000, factor=0.01):
        sizes = [max(1, int(largest * factor ** (c / (classes - 1)))) for c in range(classes)]
        ids = np.random.default_rng(0).permutation(classes)
        counts = [0] * classes
        for i, size in zip(ids, sizes, strict=True):
            counts[i] = size
        third = classes // 3
        parts = (ids[:third], ids[third : 2 * third], ids[2 * third :])
        groups = {g: [int(i) for i in part] for g, part in zip(("head", "mid", "tail"), parts, strict=True)}
        return counts, [f"class {i}" for i in range(classes)], groups

    return make
