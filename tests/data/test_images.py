from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from deitlt.data.datasets import DataRequest
from deitlt.data.file_checks import find_broken
from deitlt.data.folder import read_folder
from deitlt.data.images import ArrayImages, FileImages, Subset, decode_crop, drop, levels_of
from deitlt.data.loading import isolated_rng
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


def test_paths_keep_their_characters(tmp_path, write_image):
    paths = [write_image(tmp_path / name) for name in ("süß 图.png", "b.png")]
    source = FileImages([paths[0], str(paths[1])], [1, 0])
    assert [source.path(0), source.path(1)] == [str(path) for path in paths]
    assert source[0].size == (6, 5)


def test_a_subset_of_a_subset_is_one_of_the_whole():
    whole = array_images()
    part = Subset(Subset(whole, [5, 3, 1]), [2, 0])
    assert part.source is whole
    assert part.indices.tolist() == [1, 5]
    assert part.labels.tolist() == [1, 5]
    assert part[1].getpixel((0, 0)) == (5, 5, 5)


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


def test_each_file_is_named_once_and_every_copy_dropped(tmp_path, write_image):
    (tmp_path / "a.png").write_bytes(b"x")
    source = FileImages([*[tmp_path / "a.png"] * 3, write_image(tmp_path / "b.png")], [0, 1, 0, 1])
    assert find_broken(source) == [str(tmp_path / "a.png")]
    assert len(drop(source, find_broken(source))) == 1
    assert find_broken(Subset(source, [3])) == []


# Decoding

SMOOTH = np.indices((96, 128)).sum(0)[..., None] * np.array([1.0, 0.5, 0.2])  # JPEG keeps slow changes of colour


def written(folder, name="picture.jpg", factor=1, **options):
    image = Image.fromarray(SMOOTH.astype(np.uint8)).resize((128 * factor, 96 * factor), Image.Resampling.BICUBIC)
    image.save(folder / name, **options)
    return str(folder / name)


@pytest.mark.parametrize("name", ["picture.jpg", "picture.png", "picture.webp", "picture.bmp", "picture.gif"])
def test_a_file_is_decoded_as_pillow_does(tmp_path, name):
    path = written(tmp_path, name)
    expected = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    found = levels_of(FileImages([path], [0]), 0)
    assert found.dtype == torch.uint8
    assert (found.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "P"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("picture.jpg" if mode in ("L", "CMYK") else "picture.png")
    Image.fromarray(SMOOTH.astype(np.uint8)).convert(mode).save(path)
    expected = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    assert FileImages([path], [0])[0].mode == "RGB"
    found = levels_of(FileImages([path], [0]), 0)
    # Pillow and torchvision print a CMYK file's inks a few levels apart.
    assert (found.int() - expected.int()).abs().max() <= (1 if mode != "CMYK" else 4)


def crop_of(path, size=32, seed=3, **options):
    crop = transforms.RandomResizedCrop(size, interpolation=InterpolationMode.BICUBIC, **options)
    with isolated_rng(seed):
        return decode_crop(FileImages([path], [0]), 0, crop, size)


def test_a_crop_is_that_of_the_decoded_image(tmp_path):
    path = written(tmp_path)
    crop = transforms.RandomResizedCrop(32, interpolation=InterpolationMode.BICUBIC)
    with isolated_rng(3):
        expected = np.asarray(crop(Image.open(path).convert("RGB")))
    assert np.abs(crop_of(path).permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2
    shift = transforms.Compose([transforms.Resize((16, 16)), transforms.RandomCrop(16, 2)])  # takes the whole image
    with isolated_rng(1):
        found = decode_crop(FileImages([path], [0]), 0, shift, 16)
    with isolated_rng(1):
        assert torch.equal(found, shift(levels_of(FileImages([path], [0]), 0)))


def test_a_large_jpeg_is_decoded_reduced_and_looks_the_same(tmp_path, monkeypatch):
    path = written(tmp_path, factor=8, quality=95)  # 1,024 x 768, of which 32 pixels a side are kept
    reduced = crop_of(path, scale=(0.8, 1.0))
    monkeypatch.setattr("deitlt.data.images.REDUCED_FROM", 10**6)
    whole = crop_of(path, scale=(0.8, 1.0))
    assert not torch.equal(reduced, whole)
    assert (reduced.int() - whole.int()).abs().max() <= 3


@pytest.mark.parametrize("name", ["half.jpg", "words.jpg", "empty.jpg", "absent.jpg"])
def test_a_broken_file_is_named_with_the_way_out(tmp_path, name):
    whole = Path(written(tmp_path)).read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    path = str(tmp_path / name)
    for read in (
        lambda: FileImages([path], [0])[0],
        lambda: levels_of(FileImages([path], [0]), 0),
        lambda: crop_of(path),
    ):
        with pytest.raises(DataError, match=rf"{name} cannot be (decoded|read) .*data\.on_broken=skip") as caught:
            read()
        assert "\n" not in str(caught.value)
