import csv

import numpy as np
import pytest
import torch
from PIL import Image

from deitlt.checkpoints import load_student, load_teacher
from deitlt.cli import main
from deitlt.data.datasets import DataRequest, read_digits


@pytest.fixture
def digits(tmp_path):
    """Twelve test digits as files, in folders of folders."""
    source = read_digits(DataRequest(tmp_path)).test
    for i in range(12):
        path = tmp_path / "digits" / str(i % 3) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        source[i * 40].save(path)
    return tmp_path / "digits"


def predict(*words):
    assert main(["predict", *words, "output=out/found.csv", "num_workers=0"]) == 0
    with open("out/found.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_each_image_gets_a_row_with_what_each_token_thinks(trained, digits, capfd):
    rows = predict(f"checkpoint={trained}", f"images={digits}")
    places = [
        f"{token}_{place}{what}"
        for token in ("cls", "dist", "avg")
        for place in (1, 2, 3)
        for what in ("", "_probability")
    ]
    assert list(rows[0]) == ["file", "class", "probability", *places]
    assert [row["file"] for row in rows] == [str(path) for path in sorted(digits.rglob("*.png"))]
    assert "12 images -> out/found.csv" in capfd.readouterr().out


def test_rows_hold_class_names_and_falling_probabilities(trained, digits):
    rows = predict(f"checkpoint={trained}", f"images={digits}")
    for row in rows:
        assert row["class"] in "0123456789"
        assert (row["class"], row["probability"]) == (row["avg_1"], row["avg_1_probability"])
        for token in ("cls", "dist", "avg"):
            shares = [float(row[f"{token}_{place}_probability"]) for place in (1, 2, 3)]
            assert shares == sorted(shares, reverse=True)
            assert len({row[f"{token}_{place}"] for place in (1, 2, 3)}) == 3
            assert 0.1 <= shares[0] <= 1
    assert len({row["class"] for row in rows}) > 1


def test_a_batch_changes_no_answer(trained, digits):
    together = predict(f"checkpoint={trained}", f"images={digits}")
    assert predict(f"checkpoint={trained}", f"images={digits}", "batch_size=5") == together
    alone = predict(f"checkpoint={trained}", f"images={sorted(digits.rglob('*.png'))[3]}")
    assert alone == [together[3]]


def test_a_teacher_and_a_plain_vit_have_one_answer(trained, digits):
    for stage in ("teacher", "baseline"):
        (row, *_) = predict(f"checkpoint={trained}", f"images={digits}", f"stage={stage}", "top=1")
        assert list(row) == ["file", "class", "probability", "cls_1", "cls_1_probability"]


def test_no_more_classes_are_named_than_there_are(trained, digits):
    (row, *_) = predict(f"checkpoint={trained}", f"images={digits}", "stage=teacher", "top=99")
    assert "cls_10" in row
    assert "cls_11" not in row


def test_an_empty_folder_is_refused(complain, trained, tmp_path):
    (tmp_path / "empty").mkdir()
    sentence = complain("predict", f"checkpoint={trained}", "images=empty", output=None)
    assert "images=empty holds no image" in sentence


def test_a_folder_that_there_is_not_is_refused(complain, trained):
    sentence = complain("predict", f"checkpoint={trained}", "images=gone", output=None)
    assert "images=gone does not exist; type images=FOLDER" in sentence


def test_an_output_that_is_no_csv_file_is_refused(complain, trained, digits):
    words = [f"checkpoint={trained}", f"images={digits}", "output=found.txt"]
    assert "output=found.txt is no CSV file; type output=found.csv" in complain("predict", *words, output=None)


def test_a_broken_image_is_named_and_nothing_is_written(complain, trained, digits):
    broken = digits / "0" / "00.png"
    broken.write_bytes(b"no image")
    words = [f"checkpoint={trained}", f"images={digits}", "output=found.csv"]
    sentence = complain("predict", *words, output=None)
    assert str(broken) in sentence
    assert "on_broken=skip" in sentence


def test_broken_images_are_left_out_and_counted_when_asked(trained, digits, capfd):
    (digits / "0" / "00.png").write_bytes(b"no image")
    rows = predict(f"checkpoint={trained}", f"images={digits}", "on_broken=skip")
    assert len(rows) == 11
    assert "1 broken file" in capfd.readouterr().out


def test_grey_and_transparent_images_are_answered(trained, tmp_path):
    (tmp_path / "mixed").mkdir()
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(pixels).save(tmp_path / "mixed" / "grey.png")
    Image.fromarray(np.stack([pixels] * 4, axis=-1), "RGBA").save(tmp_path / "mixed" / "alpha.png")
    assert len(predict(f"checkpoint={trained}", "images=mixed")) == 2


def test_a_runs_folder_is_enough_in_python(trained):
    assert load_student(trained)(torch.zeros(1, 3, 16, 16)).dist.shape == (1, 10)
    assert load_teacher(trained)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
