"""A student's first weights, and whether they or a teacher saw images that the run holds out."""

import huggingface_hub.constants
import pytest
import timm
import torch
from external_files import ARGUMENTS, make_spec, prefixed, student_file, transformer
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from deitlt.checkpoints import check_start, check_unseen, initialise
from deitlt.data import LongTailDataModule
from deitlt.errors import CheckpointError, ConfigError
from deitlt.models import CifarResNet, create_student
from deitlt.transforms import IMAGENET
from deitlt.types import Normalisation

SIZES = {"image_size": 16, "patch_size": 4, "width": 64, "depth": 2, "heads": 1}
HEADS = ["head.weight", "head.bias", "head_dist.weight", "head_dist.bias"]


@pytest.fixture
def source(tmp_path):
    """Writes a transformer as the authors do; its path."""

    def save(**sizes):
        vit = transformer(**sizes)
        torch.save(student_file(vit), tmp_path / "theirs.pth")
        return vit, str(tmp_path / "theirs.pth")

    return save


@pytest.fixture
def ours(tmp_path):
    """Writes a student as deitlt does, of the classes a to e; its weights and path."""

    def save(data=None):
        network = student()
        torch.nn.init.normal_(network.vit.head.weight)
        classes = {"class_names": list("abcde"), "labels": list(range(5)), "counts": [5, 4, 3, 2, 1]}
        spec = make_spec("student", SIZES, **classes, groups={"head": list(range(5))}, data=data or {})
        state = {f"network.{name}": value for name, value in network.state_dict().items()}
        torch.save({"deitlt": spec.as_plain(), "state_dict": state}, tmp_path / "ours.ckpt")
        return weights_of(network), str(tmp_path / "ours.ckpt")

    return save


def student(num_classes=5, **changes):
    torch.manual_seed(5)
    return create_student(num_classes, **(SIZES | changes))


def weights_of(network):
    return {name.removeprefix("vit."): value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize(("num_classes", "fresh"), [(5, []), (7, HEADS)])
def test_as_many_classes_take_everything_and_heads_of_other_classes_stay_fresh(source, num_classes, fresh):
    vit, path = source()
    network = student(num_classes)
    before = weights_of(network)
    assert initialise(network, path).fresh == fresh
    found = weights_of(network)
    for name, value in vit.state_dict().items():
        assert torch.equal(found[name], before[name] if name in fresh else value)


def test_positions_of_another_grid_are_resampled(source):
    vit, path = source(image_size=32)
    network = student()
    assert initialise(network, path).fresh == []
    expected = resample_abs_pos_embed(vit.pos_embed, [4, 4], num_prefix_tokens=2)
    torch.testing.assert_close(network.vit.pos_embed, expected)
    assert torch.equal(network.vit.pos_embed[:, :2], vit.pos_embed[:, :2])


def test_a_plain_vit_leaves_what_it_lacks_fresh(source):
    vit, path = source(distilled=False, image_size=8)
    network = student()
    before = weights_of(network)
    assert initialise(network, path).fresh == ["dist_token", "head_dist.weight", "head_dist.bias"]
    found = weights_of(network)
    assert torch.equal(found["cls_token"], vit.cls_token)
    assert torch.equal(found["dist_token"], before["dist_token"])
    assert torch.equal(found["pos_embed"][:, 1], before["pos_embed"][:, 1])  # DIST's position
    assert torch.equal(found["pos_embed"][:, 0], vit.pos_embed[:, 0])


def test_a_plain_vit_takes_a_distilled_ones_trunk(source):
    vit, path = source()
    network = student(distilled=False)
    assert initialise(network, path).fresh == []
    assert torch.equal(network.vit.head.weight, vit.head.weight)
    assert torch.equal(network.vit.pos_embed[:, 1:], vit.pos_embed[:, 2:])


def test_heads_follow_the_names_of_the_classes_or_stay_fresh(ours):
    weights, path = ours()
    network = student()
    assert initialise(network, path, list("badce")).fresh == []
    assert torch.equal(network.vit.head.weight, weights["head.weight"][[1, 0, 3, 2, 4]])
    network = student()
    assert initialise(network, path, list("vwxyz")).fresh == HEADS
    assert torch.equal(weights_of(network)["cls_token"], weights["cls_token"])


def mae(weights):
    """As MAE's pre-training writes it: fixed positions, a decoder, a mask, and no classifier."""
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_pos_embed": torch.zeros(1, 17, 8)}
    decoder |= {"decoder_embed.weight": torch.zeros(8, 64), "decoder_blocks.0.norm1.weight": torch.zeros(8)}
    return {"model": weights | decoder, "optimizer": {}, "epoch": 799, "args": ARGUMENTS}


def dino(weights):
    """As DINO's training writes it: a student and its average, each with a head that projects."""
    head = {"head.mlp.0.weight": torch.zeros(8, 64), "head.last_layer.weight_g": torch.zeros(8, 1)}
    others = {name: value + 1 for name, value in weights.items()}
    student = prefixed(prefixed(others, "backbone.") | head, "module.")
    return {"student": student, "teacher": prefixed(weights, "backbone.") | head, "epoch": 100, "args": ARGUMENTS}


LAYOUTS = {"mae.pth": mae, "dino.pth": dino, "dino_backbone.pth": dict, "timm.safetensors": dict}


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_encoder_without_a_classifier_is_taken_and_what_it_lacks_is_said(name, tmp_path):
    vit = transformer(distilled=False, image_size=8)
    weights = {part: value for part, value in vit.state_dict().items() if not part.startswith("head")}
    save = save_file if name.endswith(".safetensors") else torch.save
    save(LAYOUTS[name](weights), tmp_path / name)
    network = student()
    before = weights_of(network)
    started = initialise(network, str(tmp_path / name))
    assert started.fresh == ["dist_token", *HEADS]
    assert started.positions == "positions resampled from 2x2 patches to 4x4, the position of DIST fresh"
    found = weights_of(network)
    for part, value in weights.items():
        assert part == "pos_embed" or torch.equal(found[part], value)
    assert all(torch.equal(found[part], before[part]) for part in started.fresh)
    assert torch.equal(found["pos_embed"][:, 0], vit.pos_embed[:, 0])
    assert check_start(str(tmp_path / name), DATA) == f"student: {tmp_path / name} {NOBODY_KNOWS}"


def test_a_broken_file_of_safetensors_is_told(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"broken\.safetensors is no file of safetensors"):
        initialise(student(), str(tmp_path / "broken.safetensors"))


def test_weights_of_other_images_than_these_are_named(tmp_path, monkeypatch, ours):
    vit, path = transformer(), tmp_path / "model.safetensors"
    halves = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    save_file(vit.state_dict(), path)
    assert initialise(student(), str(path)).said(IMAGENET) == "fresh: nothing"
    (tmp_path / "config.json").write_text('{"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}')
    said = initialise(student(), str(path)).said(IMAGENET)
    assert "images normalised by mean (0.5, 0.5, 0.5) and deviation (0.5, 0.5, 0.5), and here they are by mean" in said
    assert initialise(student(), str(path)).said(halves) == "fresh: nothing"
    (tmp_path / "config.json").write_text('{"pretrained_cfg": 3}')
    assert initialise(student(), str(path)).normalisation is None
    own, network, plain = ours()[1], student(), transformer(distilled=False)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: plain)
    assert initialise(network, "timm:vit_tiny_patch16_224").normalisation == halves
    assert initialise(network, "timm:vit_small_patch16_224.dino").normalisation == IMAGENET
    assert initialise(network, own).normalisation == Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 128}, r"has width 64, but the student has 128; type student\.model\.width=64"),
        ({"patch_size": 8}, r"has patch_size 4, but the student has 8; type student\.model\.patch_size=4"),
        ({"depth": 3}, r"another transformer than the student: it has no blocks\.2.* student\.model\.depth"),
        ({"depth": 1}, r"another transformer than the student: it has the part blocks\.1"),
        ({"name": "deit3_base_patch16_224", "distilled": False}, r"it has no blocks\.0\.ls1\.gamma"),
    ],
)
def test_another_size_is_told_and_changes_nothing(source, changes, message):
    _, path = source()
    network = student(**changes)
    before = weights_of(network)
    with pytest.raises(CheckpointError, match=message):
        initialise(network, path)
    assert all(torch.equal(value, before[name]) for name, value in weights_of(network).items())


def test_a_teacher_and_a_missing_file_are_told(tmp_path):
    torch.save(CifarResNet(5, 8).state_dict(), tmp_path / "teacher.pth")
    with pytest.raises(CheckpointError, match=r"teacher\.pth holds a teacher; type student\.init=FILE of a student"):
        initialise(student(), str(tmp_path / "teacher.pth"))
    with pytest.raises(CheckpointError, match=r"no checkpoint .*gone\.pth"):
        initialise(student(), str(tmp_path / "gone.pth"))


def test_timms_weights_come_without_their_heads(monkeypatch):
    vit, network, asked = transformer(), student(), []
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: asked.append((name, pretrained)) or vit)
    assert initialise(network, "timm:deit_tiny_distilled_patch16_224").fresh == HEADS
    assert asked == [("deit_tiny_distilled_patch16_224", True)]
    assert torch.equal(network.vit.norm.weight, vit.norm.weight)


def test_timms_weights_that_cannot_be_had_are_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"timm:deit_tiny_patch16_224 could not be fetched .*student\.init=null"):
        initialise(student(), "timm:deit_tiny_patch16_224")
    for name, advice in (("deit_tini_patch16_224", "deit_tiny_patch16_224"), ("resnet50", "type timm:deit")):
        with pytest.raises(ConfigError, match=f"timm:{name} is no pretrained vision transformer of timm; .*{advice}"):
            initialise(student(), f"timm:{name}")


DATA = {"name": "digits", "root": "data", "split_seed": 0, "imbalance_factor": 0.1, "imbalance_kind": "exp"}
DATA |= {"max_count": 20, "val_fraction": 0.2}
ALL = DATA | {"val_fraction": 0.0}
NOBODY_KNOWS = "does not say whether it was trained on images that are held out here"


def told(known, data):
    """What is said of a teacher of some training data."""
    return check_unseen("teacher", "r1", known, data)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"val_fraction": 0.1}, "data.val_fraction=0.1"),
        ({"split_seed": 1}, "data.split_seed=1"),
        ({"imbalance_factor": None}, "data.imbalance_factor=null"),
        ({"max_count": 30}, "data.max_count=30"),
    ],
)
def test_a_network_from_which_other_images_were_held_out_is_refused(change, named, ours):
    with pytest.raises(CheckpointError) as error:
        told(DATA | change, DATA)
    assert f"The teacher in r1 was trained with {named}, so that with " in str(error.value)
    assert str(error.value).endswith(f"holds out; type teacher.checkpoint=null to train one, or {named}.")
    with pytest.raises(CheckpointError, match=r"The student in .*ours\.ckpt was trained with"):
        check_start(ours(DATA | change)[1], DATA)


def test_a_network_that_has_not_seen_the_held_out_images_passes(ours):
    for known, data in ((DATA, DATA), (DATA | {"val_fraction": 0.3, "root": "moved"}, DATA), (ALL, ALL), ({}, ALL)):
        assert told(known, data) is None
        assert check_start(ours(known)[1], data) is None
    assert check_start(None, DATA) is None


def test_images_of_a_list_are_held_out_from_whatever_was_trained_on_the_training_list():
    listed = ALL | {"name": "lists", "train_list": "train.txt"}
    held_out = listed | {"val_list": "val.txt"}
    assert told(listed, held_out) is None
    assert NOBODY_KNOWS in told(listed | {"train_list": "other.txt"}, held_out)
    with pytest.raises(CheckpointError, match=r"was trained with data\.val_fraction=0\.0"):
        told(held_out, listed | {"val_fraction": 0.2})


def test_a_line_says_so_where_nobody_knows_what_a_network_has_seen():
    folder = DATA | {"name": "folder"}
    for known, data in (({}, DATA), (DATA | {"name": "other"}, DATA), (folder | {"root": "elsewhere"}, folder)):
        assert told(known, data) == f"teacher: r1 {NOBODY_KNOWS}"
    timms = "timm:deit_tiny_patch16_224"
    assert check_start(timms, DATA) == f"student: {timms} {NOBODY_KNOWS}"


def test_what_is_held_out_with_a_share_is_held_out_with_a_larger_one():
    options = {key: value for key, value in DATA.items() if key != "val_fraction"}
    smaller, larger = (LongTailDataModule.from_keys(**options, val_fraction=share) for share in (0.2, 0.3))
    kept = [set(map(int, module.splits.train.indices)) for module in (smaller, larger)]
    assert kept[1] < kept[0]
