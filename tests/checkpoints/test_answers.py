import pytest
import torch

from deitlt.checkpoints.answers import SCHEDULE, AnswerStore, EpochAnswers, EpochName
from deitlt.errors import CheckpointError, ConfigError

NAME = EpochName(epoch=3, rank=1, mixed=True)
PARTS = {(0, 0): torch.tensor([4, 0, 9]), (0, 1): torch.tensor([7]), (1, 0): torch.tensor([2, 2, 5])}


def store(folder, schedule="{}", num_classes=10, decisions=True):
    opened = AnswerStore(folder, schedule, num_classes, decisions)
    opened.open()
    return opened


def test_what_was_stored_is_read_at_its_place(tmp_path):
    store(tmp_path).write(NAME, EpochAnswers.of_parts(PARTS))
    found = store(tmp_path).read(NAME)
    assert {place: found.at(place).tolist() for place in PARTS} == {p: v.tolist() for p, v in PARTS.items()}
    assert found.at((1, 1)) is None


def test_another_epoch_rank_and_mixing_have_files_of_their_own(tmp_path):
    opened = store(tmp_path)
    opened.write(NAME, EpochAnswers.of_parts(PARTS))
    others = (EpochName(4, 1, True), EpochName(3, 0, True), EpochName(3, 1, False))
    assert [opened.read(name) for name in others] == [None, None, None]
    assert len({NAME.file, *(name.file for name in others)}) == 4


@pytest.mark.parametrize(
    ("num_classes", "dtype"), [(256, torch.uint8), (257, torch.int16), (8142, torch.int16), (40000, torch.int32)]
)
def test_decisions_take_the_smallest_integers_that_hold_every_class(num_classes, dtype, tmp_path):
    opened = store(tmp_path, num_classes=num_classes)
    last = torch.tensor([num_classes - 1, 0])
    opened.write(NAME, EpochAnswers.of_parts({(0, 0): last}))
    found = opened.read(NAME).answers
    assert found.dtype == dtype
    assert torch.equal(found.long(), last)


def test_logits_are_stored_as_they_are(tmp_path):
    opened, logits = store(tmp_path, decisions=False), torch.randn(5, 10)
    opened.write(NAME, EpochAnswers.of_parts({(0, 0): logits[:3], (1, 0): logits[3:]}))
    assert torch.equal(opened.read(NAME).answers, logits)


def test_schedules_have_folders_of_their_own(tmp_path):
    one, other = store(tmp_path, '{"seed": 0}'), store(tmp_path, '{"seed": 1}')
    one.write(NAME, EpochAnswers.of_parts(PARTS))
    assert one.folder != other.folder
    assert other.read(NAME) is None
    assert (other.folder / SCHEDULE).read_text() == '{"seed": 1}'


def test_another_schedule_in_the_folder_is_refused(tmp_path):
    opened = store(tmp_path)
    (opened.folder / SCHEDULE).write_text('{"seed": 7}')
    with pytest.raises(CheckpointError, match=r"holds the teacher's answers to other images.*delete that folder"):
        opened.open()


def test_a_folder_that_is_none_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"student\.teacher_view\.store=.*file cannot be used.*store=null"):
        store(tmp_path / "file")


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    return content[:-60] + bytes([content[-60] ^ 1]) + content[-59:]


@pytest.mark.parametrize("spoil", [cut, flip, lambda content: b""])
def test_a_damaged_file_is_one_sentence(spoil, tmp_path):
    opened = store(tmp_path)
    opened.write(NAME, EpochAnswers.of_parts(PARTS))
    file = opened.folder / NAME.file
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"{NAME.file} is damaged, or was moved there; delete it"):
        opened.read(NAME)


def test_a_file_under_another_ones_name_is_refused(tmp_path):
    opened, other = store(tmp_path), EpochName(4, 1, True)
    opened.write(NAME, EpochAnswers.of_parts(PARTS))
    (opened.folder / NAME.file).rename(opened.folder / other.file)
    with pytest.raises(CheckpointError, match="was moved there"):
        opened.read(other)
