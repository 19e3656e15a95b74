import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitlt.data.datasets import DataRequest
from deitlt.data.file_checks import find_broken
from deitlt.data.folder import read_folder
from deitlt.data.images import ArrayImages, FileImages, Subset, drop
from deitlt.errors import DataError


def array_images(n=6):
    pixels = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    return ArrayImages(pixels, list(range(n)))


def test_array_images_are_rgb_and_labels_int64():
    source = array_images()
    image = source[4]
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), (4, 4, 4))
    assert source.labels.dtype == np.int64
    assert len(source) == 6


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_files_of_any_mode_become_rgb(tmp_path, write_image, mode):
    path = write_image(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), mode=mode)
    image = FileImages([path], [0])[0]
    assert (image.mode, image.size) == ("RGB", (6, 5))


def test_paths_keep_their_characters(tmp_path, write_image):
    paths = [write_image(tmp_path / name) for name in ("süß 图.png", "b.png")]
    source = FileImages([paths[0], str(paths[1])], [1, 0])
    assert [source.path(0), source.path(1)] == [str(path) for path in paths]
    assert source[0].size == (6, 5)


def test_broken_file_is_named_with_the_way_out(tmp_path, write_image):
    whole = write_image(tmp_path / "a.jpg")
    whole.write_bytes(whole.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"a\.jpg cannot be decoded .*data\.on_broken=skip") as caught:
        FileImages([whole], [0])[0]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"x" * 40])
def test_what_is_no_image_raises_data_error(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="cannot be decoded"):
        FileImages([tmp_path / "a.png"], [0])[0]


def test_subset_of_a_subset_is_a_view_of_the_whole():
    whole = array_images()
    part = Subset(Subset(whole, [5, 3, 1]), [2, 0])
    assert part.source is whole
    assert part.indices.tolist() == [1, 5]
    assert part.labels.tolist() == [1, 5]
    assert part[1].getpixel((0, 0)) == (5, 5, 5)


def test_sources_pickle(tmp_path: Path, write_image):
    source = Subset(FileImages([write_image(tmp_path / "a.png"), write_image(tmp_path / "b.png")], [0, 1]), [1])
    copy = pickle.loads(pickle.dumps(source))
    assert isinstance(copy[0], Image.Image)
    assert copy.labels.tolist() == [1]


def test_finds_and_drops_broken_files(image_folder):
    cut = image_folder / "train/cat/1.jpg"
    cut.write_bytes(cut.read_bytes()[:-300])
    (image_folder / "train/dog/2.webp").write_bytes(b"")
    source = read_folder(DataRequest(image_folder)).train
    broken = find_broken(source)
    assert broken == [str(cut), str(image_folder / "train/dog/2.webp")]
    kept = drop(source, broken)
    assert kept.labels.tolist() == [0, 0, 1]
    assert [kept[i].mode for i in range(3)] == ["RGB"] * 3
    assert find_broken(kept) == []


def test_each_file_is_named_once_and_every_copy_dropped(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    source = FileImages([tmp_path / "a.png"] * 3, [0, 1, 0])
    assert find_broken(source) == [str(tmp_path / "a.png")]
    assert len(drop(source, find_broken(source))) == 0


def test_subset_is_searched_alone(tmp_path, write_image):
    (tmp_path / "a.png").write_bytes(b"x")
    source = FileImages([tmp_path / "a.png", write_image(tmp_path / "b.png")], [0, 1])
    assert find_broken(Subset(source, [1])) == []
    assert find_broken(Subset(source, [0])) == [str(tmp_path / "a.png")]
