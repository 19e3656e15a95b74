import copy
from functools import partial

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from deitlt.errors import ConfigError
from deitlt.models import (
    CosineLinear,
    compile_network,
    create_paco_teacher,
    create_student,
    create_teacher,
    keep_channels_last,
    list_teachers,
    uncompiled,
)
from deitlt.models.factory import entrances, words_for


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "regnetx_002"])
def test_any_cnn_of_timm_with_a_cosine_head(name):
    network = create_teacher(5, name, "cosine").eval()
    classifiers = [m for m in network.modules() if isinstance(m, CosineLinear)]
    assert len(classifiers) == 1
    seen = []
    classifiers[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        logits = network(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 5)
    assert torch.equal(logits, seen[0])  # nothing comes after the cosines
    assert logits.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize(
    "make",
    [
        partial(create_teacher, 5, "cifar_resnet8"),
        partial(create_teacher, 5, "cifar_resnet8", "cosine"),
        partial(create_teacher, 5, "resnet10t"),
        partial(create_teacher, 5, "mobilenetv3_small_050", "cosine"),
        partial(create_teacher, 5, "dla46x_c"),  # whose classifier is a convolution
        partial(create_paco_teacher, 5, "cifar_resnet8"),
        partial(create_student, 5, "deit_tiny_patch16_224", image_size=64, depth=1),
        partial(create_student, 5, "vit_tiny_patch16_224", image_size=64, depth=1, distilled=False),
    ],
)
def test_heads_answer_in_float32_under_autocast(make):
    network = make().eval()
    found = network.get_classifier()
    heads = found if isinstance(found, tuple) else (found,)
    passed = []
    for head in heads:
        head.register_forward_hook(lambda head, inputs, output: passed.append((head, inputs[0], output)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        answers = network(torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert len(passed) == len(heads)
    for head, features, logits in list(passed):
        assert torch.equal(logits, head(features.float()))
    for logits in (answers,) if isinstance(answers, torch.Tensor) else answers:
        assert logits is None or logits.dtype == torch.float32


def test_names_are_listed_and_filtered():
    assert list_teachers("cifar_*") == [f"cifar_resnet{depth}" for depth in (8, 20, 32, 44, 56)]
    assert "resnet50" in list_teachers()
    assert all(name.startswith("regnety_1") for name in list_teachers("regnety_1*"))


def builds(name):
    """Whether what is to be typed for one of timm's networks makes one that answers, while it trains, with logits."""
    typed = dict(word.split("=") for word in words_for(name).split())
    if (student := typed.get("student.model.name")) is not None:
        width = None if "student.model.width" in typed else 64
        network = create_student(3, student, 16, 4, distilled=typed.get("method") != "vit", width=width, depth=1)
        return network.train()(torch.zeros(2, 3, 16, 16)).cls.shape == (2, 3)
    size = int(typed.get("teacher.image_size", 32))
    with torch.device("meta"):
        network = create_teacher(3, typed["teacher.model.name"], typed.get("teacher.model.head", "cosine"))
        return network.train()(torch.zeros(2, 3, size, size)).shape == (2, 3)


SOME = (
    "resnet18",
    "swin_tiny_patch4_window7_224",
    "dla34",
    "ghostnetv2_100",
    "poolformer_s12",
    "mobilenetv3_small_100",
)
VITS = timm.list_models(module=("vision_transformer", "deit"))


@pytest.mark.parametrize(
    "names",
    [SOME, VITS, pytest.param([*timm.list_models()], marks=pytest.mark.slow)],
    ids=["some", "transformers", "all"],
)
def test_every_name_that_is_listed_builds_with_the_words_beside_it(names):
    offered = [name for name in names if words_for(name) is not None]
    assert len(offered) > 0.9 * len(names)
    assert [name for name in offered if not builds(name)] == []


def test_what_must_stand_beside_a_name_is_said_with_it():
    assert words_for("resnet18") == "teacher.model.name=resnet18"
    assert words_for("deit_tiny_patch16_224") == "student.model.name=deit_tiny_patch16_224"
    assert words_for("vit_tiny_patch16_224") == "student.model.name=vit_tiny_patch16_224 method=vit"
    assert words_for("dla34") == "teacher.model.name=dla34 teacher.model.head=linear teacher/loss=cross_entropy"
    assert words_for("swin_tiny_patch4_window7_224").endswith(" teacher.image_size=224")
    assert words_for("vit_relpos_small_patch16_224").startswith("teacher.model.name=")  # not the student's kind
    assert (words_for("volo_d1_224"), words_for("levit_128")) == (None, None)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("cifar_resnet33", "cifar_resnet32"), ("cifar_resnet110", "cifar_resnet"), ("resnet5O", "resnet50")],
)
def test_unknown_name_is_named_with_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=rf"teacher\.model\.name={name}.*did you mean '{nearest}"):
        create_teacher(10, name)


@pytest.mark.parametrize("name", ["resnetv2_50", "deit_tiny_distilled_patch16_224"])
def test_a_head_that_cannot_be_a_cosine_is_refused(name):
    with pytest.raises(ConfigError, match=rf"name={name} has no linear classifier.*head=linear"):
        create_teacher(5, name, "cosine")


SIZES = {"image_size": 8, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 3])


@pytest.fixture(autouse=True)
def no_graphs_of_others():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def student(**options):
    torch.manual_seed(0)
    return create_student(4, "deit_tiny_patch16_224", **{**SIZES, **options})


def teacher():
    torch.manual_seed(0)
    return create_teacher(4, "cifar_resnet8")


def loss_and_gradients(network, images=IMAGES, seed=3):
    torch.manual_seed(seed)
    answers = network(images)
    logits = answers.cls + 2 * answers.dist if isinstance(answers, tuple) else answers
    loss = F.cross_entropy(logits, TARGETS[: len(images)])
    network.zero_grad()
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in network.parameters()])


def counting(graphs):
    """A backend that runs graphs as they are, and keeps them."""
    return lambda graph, inputs: graphs.append(graph) or graph.forward


@pytest.mark.parametrize("make", [student, teacher])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_equals_eager(make, backend):
    eager, compiled = make(), make()
    names = list(eager.state_dict())
    compile_network(compiled, backend=backend)
    torch.testing.assert_close(loss_and_gradients(compiled), loss_and_gradients(eager), rtol=1e-4, atol=1e-6)
    assert list(compiled.state_dict()) == names
    for name, value in eager.state_dict().items():  # BatchNorm's statistics, too
        torch.testing.assert_close(compiled.state_dict()[name], value)


def test_an_evaluation_makes_no_graph_and_each_size_of_a_batch_has_one():
    graphs, network = [], student().eval()
    compile_network(network, backend=counting(graphs))
    with uncompiled():
        assert torch.equal(network(IMAGES).dist, student().eval()(IMAGES).dist)
    assert graphs == []
    for images in (IMAGES, IMAGES, IMAGES[:3], IMAGES[..., :4, :4], IMAGES):
        assert network(images).cls.shape == (len(images), 4)
    assert len(graphs) == 3


def test_a_copy_is_not_compiled_and_is_a_network_of_its_own():
    graphs, network = [], student()
    compile_network(network, backend=counting(graphs))
    loss_and_gradients(network)
    average = copy.deepcopy(network)
    with torch.no_grad():
        average.vit.head.bias.add_(1)
    assert torch.equal(average.eval()(IMAGES).cls, student().eval()(IMAGES).cls + 1)
    assert len(graphs) == 1


def channels_last_convolutions(network):
    """How many convolutions answer in that layout, of how many."""
    found = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _, inputs, y: found.append(
                    all(x.is_contiguous(memory_format=torch.channels_last) for x in (inputs[0], y))
                )
            )
    return found


def test_channels_last_equals_contiguous():
    plain, laid_out = teacher(), teacher()
    names = list(plain.state_dict())
    keep_channels_last(laid_out)
    found, others = channels_last_convolutions(laid_out), channels_last_convolutions(plain)
    torch.testing.assert_close(loss_and_gradients(laid_out), loss_and_gradients(plain), rtol=1e-4, atol=1e-5)
    assert len(found) == 7
    assert all(found)
    assert not any(others)
    assert list(laid_out.state_dict()) == names


def test_both_of_pacos_cnns_are_laid_out_and_compiled():
    graphs, network, plain = [], *(create_paco_teacher(4, "cifar_resnet8", dim=8, queue_size=8) for _ in range(2))
    plain.load_state_dict(network.state_dict())
    keep_channels_last(network)
    compile_network(network, backend=counting(graphs))
    assert entrances(network) == [network.encoder_q.backbone, network.encoder_k.backbone]
    queries, logits = network.queries(IMAGES)
    torch.testing.assert_close((queries, logits), plain.queries(IMAGES), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.keys(IMAGES), plain.keys(IMAGES), rtol=1e-4, atol=1e-5)
    assert len(graphs) == 2
    assert list(network.state_dict()) == list(plain.state_dict())
