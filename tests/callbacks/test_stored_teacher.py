from types import SimpleNamespace

import pytest
import torch
from torch import nn

from deitlt.callbacks import StoredTeacher
from deitlt.checkpoints import AnswerStore
from deitlt.data.completion import PlacedLabeller
from deitlt.errors import CheckpointError
from deitlt.models import LiveTeacher

CLASSES = 5


class CountingTeacher(LiveTeacher):
    """A live teacher that counts how many images it labels."""

    asked = 0

    def __call__(self, images):
        self.asked += len(images)
        return super().__call__(images)


def images_of(step, part=0, seed=0):
    return torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(100 * seed + 10 * step + part))


@pytest.fixture
def make(tmp_path):
    """Makes a teacher with the memory in this test's folder, as the callback of one rank."""

    def make(decisions=True, rank=0, weights=0, schedule="{}"):
        torch.manual_seed(weights)
        network = nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES))
        live = CountingTeacher(network, lambda images: images, decisions, scale=3.0)
        teacher = StoredTeacher(live, AnswerStore(tmp_path, schedule, CLASSES, decisions))
        teacher.setup(SimpleNamespace(global_rank=rank), None, "fit")
        return teacher

    return make


def epoch_of(teacher, epoch=0, steps=range(3), mixed=True, parts=1, seed=0):
    """The answers to an epoch's batches, one after the other."""
    answers = []
    for step in steps:
        teacher.at(epoch, step, mixed)
        answers += [teacher(images_of(step, part, seed)) for part in range(parts)]
    teacher.on_train_epoch_end(None, None)
    return torch.cat(answers)


def test_it_is_told_the_place_of_each_batch(make):
    assert isinstance(make(), PlacedLabeller)
    assert not isinstance(make().live, PlacedLabeller)


@pytest.mark.parametrize("decisions", [True, False])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_second_student_gets_what_the_first_was_told(decisions, parts, make):
    first, second = make(decisions), make(decisions)
    told, read = epoch_of(first, parts=parts), epoch_of(second, parts=parts)
    assert torch.equal(told, read)
    assert told.dtype == read.dtype
    assert (first.live.asked, second.live.asked) == (18 * parts, 0)


@pytest.mark.parametrize("change", [{"epoch": 1}, {"mixed": False}])
def test_another_epoch_is_asked_live(change, make):
    epoch_of(make())
    other = make()
    epoch_of(other, **change)
    assert other.live.asked == 18


def test_ranks_do_not_share_their_answers(make):
    epoch_of(make(rank=0))
    other = make(rank=1)
    epoch_of(other)
    assert other.live.asked == 18
    assert len(list(other.store.folder.glob("*rank-[01].safetensors"))) == 2


def test_an_epoch_that_was_begun_elsewhere_is_completed(make):
    resumed, longer, third = make(), make(), make()
    epoch_of(resumed, steps=[1, 2])
    answers = epoch_of(longer, steps=range(4))
    assert (resumed.live.asked, longer.live.asked) == (12, 12)
    assert torch.equal(epoch_of(third, steps=range(4)), answers)
    assert third.live.asked == 0


def test_nothing_is_written_where_nothing_was_asked(make):
    epoch_of(make())
    second = make()
    file = next(second.store.folder.glob("*.safetensors"))
    before = file.stat().st_mtime_ns
    epoch_of(second)
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("decisions", [True, False])
@pytest.mark.parametrize("other", [{"weights": 1}, {"seed": 1}])
def test_answers_to_other_images_or_of_another_teacher_are_refused(decisions, other, make):
    epoch_of(make(decisions))
    with pytest.raises(CheckpointError, match=r"not to the images of this run: [1-6] of 6 .* epoch 0; .*store=null"):
        epoch_of(make(decisions, weights=other.get("weights", 0)), seed=other.get("seed", 0))


def test_batches_of_another_size_are_refused(make):
    epoch_of(make())
    teacher = make()
    teacher.at(0, 0, True)
    teacher(images_of(0))
    teacher.at(0, 1, True)
    with pytest.raises(CheckpointError, match="not to the images of this run"):
        teacher(images_of(1)[:3])


def test_classes_that_are_as_good_as_equal_are_no_disagreement(make):
    teacher = make()
    logits = torch.tensor([[1.0, 0.99, 0.0, -1.0, -1.0]])
    teacher.live.answers = lambda images: logits
    images = images_of(0)[:1]
    assert [bool(teacher._differ(torch.tensor([c]), images)) for c in range(3)] == [False, False, True]
