import numpy as np
import pytest

from deitlt.benchmarks.stand_in import generate
from deitlt.data import LongTailDataModule
from deitlt.errors import ConfigError


def _data(name, images, folder, **options):
    data = LongTailDataModule(name, root=folder / "nowhere", download=False, **options)
    generate(data, images, folder / "images")
    return data


def test_arrays_stand_for_a_data_set_with_its_long_tail(tmp_path):
    data = _data("cifar10", 50_000, tmp_path, imbalance_factor=0.01)
    assert data.info.counts == (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)
    assert len(data.splits.test) == 10_000
    image = np.asarray(data.splits.train[3])
    assert image.shape == (32, 32, 3)
    assert image.std() > 60
    assert not np.array_equal(image, data.splits.train[4])


def test_files_stand_for_a_data_set_of_photographs(tmp_path):
    data = _data("imagenet_lt", 20_000, tmp_path)
    counts = np.array(data.info.counts)
    assert (counts.sum(), len(counts)) == (20_000, 1000)
    assert counts.min() == 1
    assert counts.max() > 50
    assert (np.diff(counts) <= 0).all()
    image = data.splits.train[0]
    assert (image.size, image.mode) == ((500, 375), "RGB")
    file = next((tmp_path / "images").iterdir())
    assert 20_000 < file.stat().st_size < 200_000


@pytest.mark.parametrize(
    ("name", "images", "sentence"),
    [
        ("folder", 100, "generated=100 cannot stand for data.name=folder, .* type generated=null"),
        ("cifar100", 99, "generated=99 leaves some of the 100 classes of cifar100 .* type generated=1000"),
    ],
)
def test_what_cannot_be_generated_is_refused(name, images, sentence, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        _data(name, images, tmp_path)
