import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from deitlt.data.decoding import Box, decode_cropped, decode_jpegs, decode_whole, draw_box, read_bytes, resize_box
from deitlt.data.loading import isolated_rng
from deitlt.errors import DataError

SMOOTH = np.indices((96, 128)).sum(0)[..., None] * np.array([1.0, 0.5, 0.2])  # JPEG keeps slow changes of colour


def written(folder, name="picture.jpg", factor=1, **options):
    image = Image.fromarray(SMOOTH.astype(np.uint8)).resize((128 * factor, 96 * factor), Image.Resampling.BICUBIC)
    image.save(folder / name, **options)
    return str(folder / name)


@pytest.mark.parametrize("name", ["picture.jpg", "picture.png", "picture.webp", "picture.bmp", "picture.gif"])
def test_a_file_is_decoded_as_pillow_does(tmp_path, name):
    path = written(tmp_path, name)
    expected = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    found = decode_whole(path)
    assert found.dtype == torch.uint8
    assert found.shape == (3, 96, 128)
    assert (found.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "P"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("picture.jpg" if mode in ("L", "CMYK") else "picture.png")
    Image.fromarray(SMOOTH.astype(np.uint8)).convert(mode).save(path)
    expected = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    # Pillow and torchvision print a CMYK file's inks a few levels apart.
    assert (decode_whole(str(path)).int() - expected.int()).abs().max() <= (1 if mode != "CMYK" else 4)


def test_a_broken_file_is_named(tmp_path):
    path = written(tmp_path)
    content = read_bytes(path)
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "words.jpg").write_text("no picture")
    for name in ("half.jpg", "words.jpg", "absent.jpg"):
        for read in (decode_whole, lambda file: decode_cropped(file, transforms.RandomResizedCrop(8), 8)):
            with pytest.raises(DataError, match=name):
                read(str(tmp_path / name))


def test_a_crop_is_that_of_the_decoded_image(tmp_path):
    path = written(tmp_path)
    crop = transforms.RandomResizedCrop(32, interpolation=InterpolationMode.BICUBIC)
    with isolated_rng(3):
        found = decode_cropped(path, crop, 32)
    with isolated_rng(3):
        expected = np.asarray(crop(Image.open(path).convert("RGB")))
    assert found.shape == (3, 32, 32)
    assert np.abs(found.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2


def test_a_large_jpeg_is_decoded_reduced_and_looks_the_same(tmp_path):
    path = written(tmp_path, factor=8, quality=95)  # 1,024 x 768, of which 32 pixels a side are kept
    crop = transforms.RandomResizedCrop(32, (0.8, 1.0), interpolation=InterpolationMode.BICUBIC)
    content = read_bytes(path)
    with isolated_rng(5):
        box = draw_box(path, content, crop)
    assert min(box.height, box.width) >= 4 * 32
    with isolated_rng(5):
        found = decode_cropped(path, crop, 32)
    whole = resize_box(decode_whole(path), box, 32, crop.interpolation)
    assert (found.int() - whole.int()).abs().max() <= 3


def test_other_crops_take_the_whole_image(tmp_path):
    path = written(tmp_path)
    crop = transforms.Compose([transforms.Resize((16, 16)), transforms.RandomCrop(16, 2)])
    with isolated_rng(1):
        found = decode_cropped(path, crop, 16)
    with isolated_rng(1):
        assert torch.equal(found, crop(decode_whole(path)))


def test_a_box_is_in_the_image(tmp_path):
    path = written(tmp_path)
    with isolated_rng(2):
        box = draw_box(path, read_bytes(path), transforms.RandomResizedCrop(8))
    assert isinstance(box, Box)
    assert 0 <= box.top <= 96 - box.height
    assert 0 <= box.left <= 128 - box.width


def test_a_batch_of_jpegs_is_decoded_on_its_device(tmp_path):
    paths = [written(tmp_path, f"{factor}.jpg", factor) for factor in (1, 2)]
    found = decode_jpegs([read_bytes(path) for path in paths], torch.device("cpu"))
    assert [image.shape for image in found] == [(3, 96, 128), (3, 192, 256)]
    assert torch.equal(found[0], decode_whole(paths[0]))


def test_the_device_refuses_what_it_cannot_decode(tmp_path):
    png, device = io.BytesIO(), torch.device("cpu")
    Image.new("RGB", (4, 4)).save(png, "png")
    with pytest.raises(DataError, match=r"only JPEG files.*type data\.decoder=worker"):
        decode_jpegs([png.getvalue()], device)
    with pytest.raises(DataError, match=r"type data\.decoder=worker"):
        decode_jpegs([read_bytes(written(tmp_path))[:200]], device)
