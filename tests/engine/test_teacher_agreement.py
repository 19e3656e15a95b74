import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from deitlt.config.compose import config_dir
from deitlt.engine.build import build_data
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import make_stage
from deitlt.engine.teacher_agreement import KINDS, choose_evenly, input_kinds, teacher_agreement, teacher_inputs

PLAIN = ("student.transforms.train.rand_augment=null", "student.transforms.train.erasing=0")


@pytest.fixture
def student(tiny, tmp_path):
    """Makes the tiny run's student stage and its data."""

    def make(*words, stage="student"):
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose("train", overrides=["paths.output_dir=run", *tiny, *words])
        made = make_stage(config, RunFolder(tmp_path / "run"), stage)
        return made, build_data(made)

    return make


def gathered(made, kind, images=30):
    batches = list(teacher_inputs(*made, kind, images))
    return torch.cat([pictures for pictures, _ in batches]), torch.cat([labels for _, labels in batches])


def test_the_choice_depends_on_the_seed_and_is_in_no_order():
    labels = np.repeat([0, 1, 2], 50)
    first = choose_evenly(labels, 30, seed=0)
    assert first.tolist() == choose_evenly(labels, 30, seed=0).tolist()
    assert set(first.tolist()) != set(choose_evenly(labels, 30, seed=1).tolist())
    assert labels[first].tolist() != sorted(labels[first].tolist())
    # A turn that is cut short does not always favour the same classes.
    assert {int(labels[choose_evenly(labels, 1, seed)[0]]) for seed in range(30)} == {0, 1, 2}


@pytest.mark.parametrize("name", ["small", "batch_small", "paper", "batch", "multicrop", "three_augment"])
def test_each_kind_shows_the_same_images_in_the_same_order(student, name):
    smaller = ["student.transforms.train.local_size=8"] if name == "multicrop" else []
    made = student(f"student/transforms={name}", *smaller)
    assert input_kinds(made[0]) == KINDS
    found = {kind: gathered(made, kind, images=20) for kind in KINDS}
    labels = found["clean"][1]
    assert all(torch.equal(seen[1], labels) for seen in found.values())
    assert {tuple(seen[0].shape) for seen in found.values()} == {(20, 3, 16, 16)}
    for kind in ("cropped", "augmented", "mixed"):
        assert not torch.equal(found[kind][0], found["clean"][0])
        assert torch.equal(found[kind][0], gathered(made, kind, images=20)[0])


def test_clean_is_the_evaluation_transform_of_training_images(student):
    made = student()
    _, data = made
    pictures, labels = gathered(made, "clean", images=10_000)
    assert sorted(labels.tolist()) == sorted(data.splits.train.labels.tolist())
    transform = data.evaluation_transform()
    known = {transform(data.splits.train[i]).numpy().tobytes(): int(c) for i, c in enumerate(data.splits.train.labels)}
    assert [known[picture.numpy().tobytes()] for picture in pictures] == labels.tolist()


def test_cropped_is_the_shift_alone_where_the_recipe_shifts(student):
    made = student("student.transforms.train.erasing=1")
    (clean, _), (cropped, _) = gathered(made, "clean"), gathered(made, "cropped")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (made[1].normalisation.mean, made[1].normalisation.std))
    black = -mean / std
    for picture, shifted in zip(clean, cropped, strict=True):
        padded = black.expand(3, 20, 20).clone()
        padded[:, 2:18, 2:18] = picture
        places = [(y, x) for y in range(5) for x in range(5)]
        assert any(torch.allclose(padded[:, y : y + 16, x : x + 16], shifted, atol=1e-5) for y, x in places)


def test_augmented_is_the_whole_transform(student):
    made = student(*PLAIN)
    assert torch.equal(gathered(made, "augmented")[0], gathered(made, "cropped")[0])
    erasing = student("student.transforms.train.erasing=1")
    assert torch.equal(gathered(erasing, "cropped")[0], gathered(made, "cropped")[0])
    assert all(
        not torch.equal(strong, weak)
        for strong, weak in zip(gathered(erasing, "augmented")[0], gathered(erasing, "cropped")[0], strict=True)
    )


def test_mixed_images_keep_most_of_the_image_whose_class_is_asked_for(student):
    words = ("student.transforms.mixing.probability=0", "student.transforms.mixing.mixup=0")
    made = student(*PLAIN, *words)
    unmixed, mixed = gathered(made, "augmented", images=60)[0], gathered(made, "mixed", images=60)[0]
    kept = (unmixed == mixed).all(dim=1).float().mean(dim=(1, 2))
    assert kept.min() >= 0.5
    assert kept.min() < 0.75
    assert kept.max() > kept.min() + 0.1  # each pair has a proportion of its own


def test_blended_images_are_nearer_to_the_image_whose_class_is_asked_for(student):
    made = student(*PLAIN, "student.transforms.mixing.cutmix=0")
    unmixed, mixed = gathered(made, "augmented", images=60)[0], gathered(made, "mixed", images=60)[0]
    black = unmixed.amin()
    assert (mixed - black >= 0.5 * (unmixed - black) - 1e-5).all()  # what it is blended with is black or brighter
    assert (mixed - unmixed).abs().amax() > 0.5


def test_partners_come_from_the_long_tail(student):
    made = student(*PLAIN, "data.max_count=100", "data.imbalance_factor=0.01", "student.transforms.mixing.mixup=0")
    _, data = made
    asked = []
    mix = data.mixing_factory

    class Spy(type(mix(2))):
        def __call__(self, images, targets, rng):
            asked.append(images[1])
            return super().__call__(images, targets, rng)

    data.mixing_factory = lambda num_classes: Spy(num_classes)
    labels = gathered(made, "mixed", images=40)[1]
    assert Counter(labels.tolist())[0] <= 6  # the chosen are even, their partners are not
    # Where it was not shifted, a partner can be recognised.
    known = {p.numpy().tobytes(): int(c) for p, c in zip(*gathered(made, "clean", images=10_000), strict=True)}
    found = [known[p.numpy().tobytes()] for p in asked if p.numpy().tobytes() in known]
    assert len(asked) == 40
    assert sum(c <= 2 for c in found) > 0.5 * len(found)


def test_a_recipe_without_a_crop_or_without_mixing_lacks_that_kind(student):
    assert input_kinds(student("student.transforms.mixing=null")[0]) == ("clean", "cropped", "augmented")
    off = ("student.transforms.mixing.mixup=0", "student.transforms.mixing.cutmix=0")
    assert input_kinds(student(*off)[0]) == ("clean", "cropped", "augmented")
    assert input_kinds(student(stage="teacher")[0]) == (
        "clean",
        "augmented",
    )  # its weak transform has no choice of crops


def test_the_streams_of_training_go_on_as_before(student):
    made = student("student/transforms=paper")
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    for kind in KINDS:
        gathered(made, kind)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_agreement_falls_with_what_the_teacher_does_not_know(student):
    made = student("student.transforms.train.erasing=1")
    clean, labels = gathered(made, "clean", images=50)
    known = {picture.numpy().tobytes(): int(label) for picture, label in zip(clean, labels, strict=True)}

    def recognise(pictures):
        return torch.eye(10)[[known.get(picture.numpy().tobytes(), 9) for picture in pictures]]

    found = teacher_agreement(*made, recognise, images=50)
    assert set(found["agreement"]) == set(KINDS)
    assert found["agreement"]["clean"] == pytest.approx({"all": 100.0, "head": 100.0, "mid": 100.0, "tail": 100.0})
    assert found["agreement"]["augmented"]["head"] == 0.0
    assert found["agreement"]["augmented"]["tail"] > 0.0  # class 9, which it says of all that it does not know
    assert set(found["consistency"]) == {"cropped", "augmented", "mixed"}
    assert found["consistency"]["augmented"] == found["agreement"]["augmented"]


def test_a_teacher_that_breaks_on_some_images_agrees_with_nothing(student):
    made = student()
    clean = {picture.numpy().tobytes() for picture in gathered(made, "clean")[0]}

    def answer(pictures):
        known = torch.tensor([picture.numpy().tobytes() in clean for picture in pictures])
        return torch.zeros(len(pictures), 10).where(known[:, None], torch.nan)

    found = teacher_agreement(*made, answer, images=30)
    assert set(found) == {"agreement", "consistency"}
    assert all(math.isnan(part) for part in found.values())


def test_one_image_is_enough(student):
    found = teacher_agreement(*student(), lambda pictures: torch.zeros(len(pictures), 10), images=1)
    assert all(len(groups) == 2 and "all" in groups for groups in found["agreement"].values())
