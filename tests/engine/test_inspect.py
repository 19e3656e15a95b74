from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.miniatures import make_imagenet_lt

from deitlt.cli import main
from deitlt.commands import inspect
from deitlt.data import LongTailDataModule, SplitOptions
from deitlt.data.file_checks import Seen
from deitlt.data.images import ArrayImages
from deitlt.engine.examples import (
    EVENLY,
    EXAMPLES,
    caption,
    device_operations,
    operation_examples,
    student_examples,
    teacher_examples,
    visibly,
)
from deitlt.transforms import (
    IMAGENET,
    Mixup,
    TeacherInput,
    batch_transform,
    multi_crop_transform,
    paired_transform,
    weak_transform,
)
from deitlt.types import DataInfo

NAMES = ("ant", "bee", "cat")
PACO = (
    *("teacher=cifar_paco", "teacher/model=paco_resnet8", "teacher/transforms=paco_weak", "teacher.drw=null"),
    "teacher.image_size=16",
)


@pytest.fixture
def shown(monkeypatch):
    """The pages that were drawn: file -> (title, examples)."""
    pages = {}

    def save(drawn, path):
        if isinstance(drawn, tuple):
            pages[path.name] = drawn
        return path

    monkeypatch.setattr(inspect, "image_grid", lambda examples, title: (title, examples))
    monkeypatch.setattr(inspect, "save_figure", save)
    return pages


def digits(**options):
    return LongTailDataModule.from_keys("digits", max_count=12, image_size=16, **options)


def heads(examples):
    return {tuple(example.pictures) for example in examples}


def test_three_pictures_are_written_and_named(tiny, tmp_path, capfd):
    assert main(["inspect", *tiny, "paths.output_dir=seen"]) == 0
    printed = capfd.readouterr().out.split()
    names = {"views.png", "teacher_views.png", "classes.png"}
    for name in names:
        path = tmp_path / "seen" / name
        assert str(path) in printed
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(2**24)) > 50
    assert {path.name for path in (tmp_path / "seen").iterdir()} == names


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["stages=[teacher]"], {"teacher_views.png"}),
        (["student/distillation=none", "stages=[student]"], {"views.png"}),
        (["stages=[baseline]"], {"views.png"}),
        (["stages=[baseline,teacher]"], {"views.png", "teacher_views.png"}),
        (["student/distillation=soft", "student.teacher_input.renormalise=true"], {"views.png", "teacher_views.png"}),
    ],
)
def test_what_is_drawn_follows_from_the_stages(words, names, tiny, shown):
    assert main(["inspect", *tiny, *words, "paths.output_dir=seen"]) == 0
    assert set(shown) == names
    if "views.png" in names:
        taught = ("teacher's view",) if "student/distillation=soft" in words else ()
        assert heads(shown["views.png"][1]) == {("original", "student's view", *taught)}
        assert ("baseline" in shown["views.png"][0]) == ("baseline" in words[0])


def test_views_of_a_batch_are_shown_mixed_and_as_the_teacher_sees_them(tiny, shown):
    assert main(["inspect", *tiny, "teacher.image_size=12", "paths.output_dir=seen"]) == 0
    _, examples = shown["views.png"]
    assert len(examples) == EXAMPLES
    assert {example.pictures["student's view"].shape for example in examples} == {(16, 16, 3)}
    assert {example.pictures["teacher's view"].shape for example in examples} == {(12, 12, 3)}
    assert all(example.caption.endswith(" others") and "% " in example.caption for example in examples)
    students = np.stack([example.pictures["student's view"] for example in examples])
    assert students.min() >= 0
    assert students.max() <= 1
    assert {example.pictures["view"].shape for example in shown["teacher_views.png"][1]} == {(12, 12, 3)}
    assert "5" in {example.caption for example in shown["teacher_views.png"][1]}  # unmixed


def test_a_teacher_that_is_given_sees_its_own_size(tiny, teacher, shown):
    assert main(["inspect", *tiny, teacher, "teacher.image_size=12", "paths.output_dir=seen"]) == 0
    assert {example.pictures["teacher's view"].shape for example in shown["views.png"][1]} == {(16, 16, 3)}
    assert "recipe" in shown["teacher_views.png"][0]


def test_both_halves_of_pacos_pairs_are_shown(tiny, shown):
    kept = [word for word in tiny if not word.startswith("teacher.drw")]
    assert main(["inspect", *kept, *PACO, "paths.output_dir=seen"]) == 0
    _, examples = shown["teacher_views.png"]
    assert heads(examples) == {("original", "view 1", "view 2")}
    assert any(not np.array_equal(e.pictures["view 1"], e.pictures["view 2"]) for e in examples)


def test_a_view_stands_beside_its_own_original():
    pair = partial(paired_transform, first=weak_transform, second=weak_transform, padding=0, flip=0.0)
    for example in teacher_examples(digits(train=pair), 0):
        for name in ("view 1", "view 2"):
            small = example.pictures[name].reshape(8, 2, 8, 2, 3).mean((1, 3))
            assert np.abs(small - example.pictures["original"] / 255).mean() < 0.15


def test_a_teacher_of_mixed_views_is_shown_them_mixed():
    examples = teacher_examples(digits(mixing=partial(Mixup, probability=0.01)), 0)
    assert all(" + " in example.caption for example in examples)


def test_of_several_crops_the_images_show_one_in_turn():
    crops = partial(multi_crop_transform, local_size=8, rand_augment=None)
    datamodule = digits(train=crops, teacher_sees="global")
    examples = student_examples(datamodule, TeacherInput(16), 0)
    assert [example.pictures["student's view"].shape[0] for example in examples] == [16, 16, 8, 8, 8, 8, 16, 16]
    assert {example.pictures["teacher's view"].shape[0] for example in examples} == {16}
    assert examples[2].caption.startswith("view 3 of 6: ")
    local = teacher_examples(digits(train=crops), 0)[0].pictures
    assert [view.shape[0] for view in local.values()] == [8, 16, 16, 8, 8, 8, 8]


def test_transmix_is_shown_by_cutmix():
    examples = student_examples(digits(mixing=partial(Mixup, attention=True)), None, 0)
    assert all("by area" in example.caption for example in examples)
    by_area = student_examples(digits(mixing=Mixup), None, 0)
    assert not any("by area" in example.caption for example in by_area)


@pytest.mark.parametrize("seed", range(5))
def test_both_images_of_a_mixture_can_be_seen(seed):
    mixing = visibly(Mixup(2, mixup=0.8, cutmix=0, probability=0.1, smoothing=0))
    images = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    mixed = mixing(images, torch.tensor([0, 1]), np.random.default_rng(seed))
    assert 0.25 < float(mixed.images[0].mean()) < 0.75


def test_only_what_is_on_is_mixed():
    assert (visibly(Mixup(2, mixup=0.8)).mixup, visibly(Mixup(2)).cutmix) == (EVENLY,) * 2
    assert visibly(Mixup(2, mixup=0.0)).mixup == 0
    assert visibly(Mixup(2, cutmix=0.0)).cutmix == 0
    assert visibly(Mixup(2, attention=True)).mixup == 0
    assert visibly(Mixup(2, attention=True, cutmix=0.0)).mixup == EVENLY


def test_a_caption_names_the_classes_that_were_mixed():
    assert caption(torch.tensor(1), NAMES) == "bee"
    assert caption(torch.tensor([0.63, 0.0, 0.37]), NAMES) == "63% ant + 37% cat"
    assert caption(torch.tensor([0.34, 0.03, 0.63]), NAMES) == "63% cat + 34% ant + 3% others"
    assert caption(torch.tensor([0.05, 0.9, 0.05]), NAMES) == "90% bee + 10% others"


def test_what_train_refuses_inspect_refuses(complain, tiny):
    assert "is not a folder" in complain("inspect", *tiny, "data=folder", "data.root=nowhere")
    assert "is not a whole number" in complain("inspect", *tiny, "student.epochs=abc")
    crops = ("student/transforms=multicrop", "student.transforms.train.local_size=16")
    assert "local_size=16 must be" in complain("inspect", *tiny, *crops)


TABLE = ("data.max_count=null", "data.imbalance_factor=null", "data.group_cuts=null", "paths.output_dir=seen")


def test_a_table_has_images_sizes_and_broken_files_of_each_class(tiny, shown, image_folder, capfd):
    Image.new("RGB", (20, 30)).save(image_folder / "train" / "bee" / "large.png")
    (image_folder / "train" / "cat" / "0.png").write_bytes(b"no image")
    words = ["inspect", *tiny, "data=folder", f"data.root={image_folder}", *TABLE]
    assert main(words) == 2
    printed = capfd.readouterr()
    assert ["cat", "4", "2", "16x16", "1"] in rows(printed.out)
    assert f"{image_folder / 'train/cat/0.png'} cannot be decoded as an image; replace it" in printed.err
    assert shown == {}
    assert main([*words, "data.on_broken=skip"]) == 0
    assert rows(capfd.readouterr().out) == [
        ["ant", "12", "2", "16x16", "0"],
        ["bee", "9", "2", "16x16 to 20x30", "0"],
        ["cat", "3", "2", "16x16", "1"],
    ]
    (image_folder / "train" / "cat" / "0.png").unlink()
    assert main([*words, "data.verify=false", "stages=[teacher]"]) == 0
    assert ["cat", "3", "2", "-", "-"] in rows(capfd.readouterr().out)


def rows(printed):
    """The lines of the table that was printed."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]


def test_of_many_classes_the_table_shows_both_ends_and_what_is_broken():
    names = [f"{c:03}" for c in range(300)]
    info = DataInfo(300, tuple(range(400, 100, -1)), tuple(names), {"head": tuple(range(300))})
    images = ArrayImages(np.zeros((300, 4, 4, 3), np.uint8), range(300))
    data = SimpleNamespace(info=info, title="many")
    data.splits = SimpleNamespace(train=images, val=None, test=images)
    table = inspect.class_table(data, {"broken.png": Seen(150, None)})
    assert [row.label for row in table.rows] == [*names[:50], "150", *names[250:]]
    assert table.note.startswith("101 of 300 classes")


@pytest.mark.parametrize(
    ("options", "train", "val", "said"),
    [
        ({}, 30, None, "as published: 30 training, 9 test images"),
        ({"imbalance_factor": 0.1}, 12, None, "as published: 12 training, 9 test images"),
        ({"val_fraction": 0.2}, 24, 6, "as published: 30 training, 9 test images"),
        ({}, 30, 5, "as published: 30 training, 9 test, 5 held-out images"),
        ({}, 28, 4, "it has 28 training images, not 30, and 4 held-out images, not 5; docs/data.md"),
        ({"imbalance_factor": 0.5}, 20, None, None),
        ({"max_count": 3}, 20, None, None),
    ],
)
def test_a_line_says_whether_counts_are_those_that_were_published(options, train, val, said):
    known = {("train", None): 30, ("train", 0.1): 12, ("val", None): 5, ("test", None): 9}
    parts = SimpleNamespace(train=range(train), val=None if val is None else range(val), test=range(9))
    spec = SimpleNamespace(published=known)
    line = inspect.published_counts(SimpleNamespace(title="x", spec=spec, split=SplitOptions(**options), splits=parts))
    assert (line is said is None) or said in line
    assert (line or "").startswith("warning: x is not as published") == ("not" in (said or ""))


def test_inspect_prints_that_line(tmp_path, tiny, capfd):
    words = [
        "inspect",
        *(word for word in tiny if not word.startswith("data.")),
        *make_imagenet_lt(tmp_path, classes=3),
    ]
    assert main([*words, "paths.output_dir=seen"]) == 0
    (line,) = (line for line in capfd.readouterr().out.splitlines() if "as published" in line)
    assert line.startswith("warning: imagenet_lt is not as published: it has ")
    assert "training images, not 115,846, and 6 test images, not 50,000; docs/data.md" in line


def test_operations_are_shown_where_the_device_makes_them():
    operations = device_operations(digits(train=batch_transform), seed=0)
    assert len(operations) == 15 + 5
    assert operations[0].pictures["timm"].shape == (16, 16, 3)
    assert device_operations(digits(train=partial(batch_transform, rand_augment=None)), seed=0) == []
    assert device_operations(digits(train=weak_transform), seed=0) == []


def test_all_operations_are_beside_timms_at_their_mean_strength_and_alike():
    across, down = np.meshgrid(np.linspace(0, 255, 40), np.linspace(0, 255, 30))
    picture = np.stack([across, down, np.sin(across / 20) * 100 + 128], axis=-1).astype(np.uint8)
    examples = operation_examples(batch_transform(32, IMAGENET, crop="padded"), picture, views=3)
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
    captions = {example.caption for example in examples}
    assert {"Invert", "Equalize", "AutoContrast"} <= captions
    assert {"PosterizeIncreasing 1", "SolarizeIncreasing 26", "SolarizeAdd 99"} <= captions
    assert {"Rotate -27", "Rotate 27"} & captions
