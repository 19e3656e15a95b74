from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from external_files import ARGUMENTS, paco_file, prefixed, scatter, student_file, transformer

from deitlt.checkpoints import authors_student_state, load_student, load_teacher, read_stored
from deitlt.checkpoints.external import recognise
from deitlt.errors import CheckpointError, ConfigError
from deitlt.models import CifarResNet, create_student, create_teacher

SHARED = Path(__file__).parents[3] / "shared" / "golden"  # beside the checkout; not part of it
PIXELS = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
PREFIXES = pytest.mark.parametrize("prefix", ["", "module."])


@pytest.fixture
def saved(tmp_path):
    """Writes what a file is to hold; its path."""

    def save(content, name="theirs.pth.tar"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


@torch.no_grad()
def answers(network, images=PIXELS):
    return network.eval()(images)


@pytest.mark.parametrize("name", ["paco", "ldam"])
@pytest.mark.skipif(
    not (SHARED / "official_teachers.npz").exists(), reason="the authors' files are not beside the clone"
)
def test_the_authors_teachers_give_the_authors_logits(name):
    reference = np.load(SHARED / "official_teachers.npz")
    teacher = load_teacher(SHARED / f"h_teacher_{name}_resnet32_c10.pth.tar")
    found = answers(teacher, torch.from_numpy(reference["teacher_input"]))
    torch.testing.assert_close(found, torch.from_numpy(reference[f"{name}10_logits"]), atol=1e-4, rtol=0)
    assert not teacher.training


@PREFIXES
@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("num_classes", [5, 64])  # 64 classes, and 64 features
def test_a_small_resnet_of_either_head(saved, prefix, head, num_classes):
    network = scatter(CifarResNet(num_classes, 8, head))
    path = saved({"epoch": 200, "arch": "resnet8", "state_dict": prefixed(network.state_dict(), prefix)})
    assert torch.equal(answers(load_teacher(path)), answers(network))


@PREFIXES
def test_pacos_inference_is_the_query_encoder_and_the_centres(saved, prefix):
    network = scatter(CifarResNet(5, 8))
    path = saved(paco_file(network, prefix))
    assert torch.equal(answers(load_teacher(path)), answers(network))
    assert read_stored(path).is_paco


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_large_resnet_as_paco_and_as_ldam_write_it(name):
    network = scatter(create_teacher(7, name))
    found = recognise(paco_file(network), Path("paco.pth.tar"))
    assert found.model == {"name": name, "head": "linear"}
    torch.testing.assert_close(answers(found.build()), answers(network))
    network = scatter(create_teacher(7, name, "cosine"))
    assert network.fc.weight.shape[1] == 7
    found = recognise({"state_dict": prefixed(network.state_dict(), "module.")}, Path("ldam.pth.tar"))
    assert found.model == {"name": name, "head": "cosine"}
    torch.testing.assert_close(answers(found.build()), answers(network))


def test_what_timms_script_writes_is_read_by_its_arch(saved):
    network = scatter(timm.create_model("mobilenetv3_small_050", num_classes=5))
    content = {"arch": "mobilenetv3_small_050", "state_dict": network.state_dict(), "args": ARGUMENTS}
    assert torch.equal(answers(load_teacher(saved(content))), answers(network))


@PREFIXES
@torch.no_grad()
def test_the_authors_student_answers_as_timms_does(saved, prefix):
    vit, average = transformer(width=128, heads=2), transformer(width=128, heads=2)
    average.head.weight.mul_(-1)
    path = saved(student_file(vit, average, prefix))
    for theirs, ours in ((vit, load_student(path)), (average, load_student(path, ema=True))):
        features = theirs.forward_features(PIXELS)
        found = ours(PIXELS)
        torch.testing.assert_close(found.cls, theirs.head(features[:, 0]))
        torch.testing.assert_close(found.dist, theirs.head_dist(features[:, 1]))
        torch.testing.assert_close((found.cls + found.dist) / 2, theirs(PIXELS))


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 192, "heads": 3, "depth": 1, "image_size": 32, "patch_size": 8, "num_classes": 7},
        {"width": 64, "depth": 3, "image_size": 8, "patch_size": 4, "distilled": False},
        {"name": "deit3_small_patch16_224", "distilled": False},
    ],
)
def test_every_size_is_read_off_the_weights(saved, sizes):
    vit = transformer(**sizes)
    side = sizes.get("image_size", 16)
    images = torch.randn(2, 3, side, side)
    found = load_student(saved(vit.state_dict()))  # weights and nothing else
    logits = answers(found, images)
    mean = logits.cls if logits.dist is None else (logits.cls + logits.dist) / 2
    torch.testing.assert_close(mean, answers(vit, images))
    assert (logits.dist is None) is (sizes.get("distilled") is False)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state_dict": {}},
        {"model": {"a": torch.ones(2)}, "args": ARGUMENTS},
        {"state_dict": {"conv1.weight": torch.ones(16, 3, 3, 3)}},
        {"arch": "resnet50", "state_dict": {"a": torch.ones(2)}},
        {"arch": ["resnet50"], "state_dict": {"layer1.0.conv3.weight": torch.ones(2)}},
    ],
)
def test_what_is_no_network_is_told_so(saved, content):
    with pytest.raises(CheckpointError, match=r"theirs\.pth\.tar was not written by deitlt, nor is it a network"):
        load_teacher(saved(content))


def test_patches_of_no_square_and_a_missing_classifier_are_told():
    weights = dict(transformer().state_dict())
    weights["pos_embed"] = weights["pos_embed"][:, :-1]
    with pytest.raises(CheckpointError, match="a transformer for 15 patches, which make no square image"):
        recognise({"model": weights}, Path("cut.pth"))
    headless = {name: value for name, value in transformer().state_dict().items() if not name.startswith("head.")}
    with pytest.raises(CheckpointError, match="a transformer without a classifier"):
        recognise({"model": headless}, Path("headless.pth"))


@pytest.mark.parametrize(
    "content",
    [
        student_file(transformer(depth=1))["model"],
        CifarResNet(5, 8, "cosine").state_dict(),
        paco_file(CifarResNet(5, 8))["state_dict"],
    ],
)
def test_a_network_that_lacks_any_part_never_raises_anything_else(content):
    needed = 0
    for name in content:
        for damaged in (
            {other: value for other, value in content.items() if other != name},
            content | {name: torch.ones(2)},
        ):
            try:
                recognise({"state_dict": damaged}, Path("damaged.pth")).build()
            except (CheckpointError, ConfigError):
                needed += 1
    assert needed > len(content) / 2


@pytest.mark.parametrize("distilled", [True, False])
def test_our_student_is_read_by_timm_and_by_ourselves(saved, distilled):
    sizes = {"image_size": 16, "patch_size": 4, "width": 64, "depth": 2, "heads": 4}
    student, average = (scatter(create_student(5, distilled=distilled, **sizes)) for _ in range(2))
    average.vit.head.weight.data.mul_(-1)
    path = saved(authors_student_state(student) | {"model_ema": authors_student_state(average)["model"]})
    expected = answers(student)
    assert torch.equal(answers(load_student(path)).cls, expected.cls)
    assert torch.equal(answers(load_student(path, ema=True)).cls, answers(average).cls)
    theirs = transformer(heads=4, distilled=distilled)
    theirs.load_state_dict(torch.load(path, weights_only=True)["model"])
    mean = (expected.cls + expected.dist) / 2 if distilled else expected.cls
    torch.testing.assert_close(answers(theirs), mean)
    if distilled:
        assert torch.equal(answers(load_student(path)).dist, expected.dist)
