import pytest
import torch

from deitlt.analysis import Rank, analyse_teacher, teacher_features
from deitlt.models import create_paco_teacher, create_teacher
from deitlt.types import IGNORED

IMAGES = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(12) % 4


def teacher(name="cifar_resnet8", head="linear"):
    torch.manual_seed(0)
    return create_teacher(4, name, head).eval()


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize(
    "name", ["cifar_resnet8", "resnet18", "mobilenetv3_small_050", "deit_tiny_distilled_patch16_224"]
)
def test_features_are_what_the_classifier_reads(name, head):
    if name.startswith("deit"):
        network = pytest.importorskip("timm").create_model(name, img_size=32, num_classes=4, depth=1).eval()
    else:
        network = teacher(name, head)
    with torch.no_grad():
        features, logits = teacher_features(network)(IMAGES)
        torch.testing.assert_close(logits, network(IMAGES))
    classifier = network.linear if name.startswith("cifar") else network.get_classifier()
    if not isinstance(classifier, tuple):
        torch.testing.assert_close(classifier(features), logits)
    assert features.shape == (12, network.num_features if name != "mobilenetv3_small_050" else 1024)


def test_pacos_features_are_the_query_encoders():
    torch.manual_seed(0)
    network = create_paco_teacher(4, "cifar_resnet8").eval()
    with torch.no_grad():
        features, _ = teacher_features(network)(IMAGES)
        torch.testing.assert_close(features, network.encoder_q.backbone(IMAGES))


def test_rank_of_a_teacher_and_its_statistics_stay():
    network, seen = teacher().train(), []
    before = network.bn1.running_mean.clone()
    batches = [(IMAGES[:8], LABELS[:8]), (IMAGES[8:], torch.full((4,), IGNORED))]
    found = analyse_teacher(network, batches, on_logits=lambda *given: seen.append(given))
    assert torch.equal(network.bn1.running_mean, before)
    assert network.training
    with torch.no_grad():
        features = network.eval().forward_features(IMAGES[:8]).double()
    shares = torch.linalg.eigvalsh(features.T.cov()).clamp(min=0).flip(0)
    held = shares.cumsum(0) / shares.sum()
    plain = found.as_plain()["rank"]
    assert (found.images, plain["width"]) == (8, 64)
    assert plain["features"]["components"] == int((held < 0.99).sum()) + 1
    assert 1 <= plain["features"]["effective"] <= 7
    assert len(seen) == 1
    assert torch.equal(seen[0][1], LABELS[:8])


def test_one_image_has_rank_0_and_none_has_no_rank():
    assert analyse_teacher(teacher(), [(IMAGES[:1], LABELS[:1])]).rank == Rank(0, 0.0)
    assert analyse_teacher(teacher(), []).as_plain() == {}
