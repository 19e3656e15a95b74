import math
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from deitlt.analysis import sharpness
from deitlt.analysis.sharpness import largest_eigenvalue, random_direction, truth_losses
from deitlt.models import create_paco_teacher, create_student
from deitlt.types import IGNORED, TokenLogits

CPU = torch.device("cpu")
GROUPS = {"head": [0, 1], "tail": [3]}


def student(**options):
    torch.manual_seed(0)
    sizes = {"image_size": 8, "patch_size": 4, "width": 4, "depth": 1, "heads": 2}
    return create_student(4, "deit_tiny_patch16_224", **sizes, **options).eval()


def cnn():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(144, 4))
    network(torch.randn(64, 3, 8, 8))  # BatchNorm's averages
    return network.eval()


def images(count=16, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 8, 8, generator=stream), torch.arange(count) % 4


def exact(network, pictures, targets, loss=truth_losses):
    """The whole Hessian of the mean loss, [n, n] in float64."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}

    def mean_loss(*values):
        return loss(functional_call(network, dict(zip(weights, values, strict=True)), (pictures,)), targets).mean()

    with sdpa_kernel(SDPBackend.MATH):
        blocks = torch.autograd.functional.hessian(mean_loss, tuple(weights.values()), vectorize=True)
    sizes = [weight.numel() for weight in weights.values()]
    rows = [
        torch.cat([block.reshape(size, other) for block, other in zip(row, sizes, strict=True)], dim=1)
        for row, size in zip(blocks, sizes, strict=True)
    ]
    return torch.cat(rows).double()


def assert_fits(found, hessian):
    assert found.eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-3)
    assert found.trace_error > 0
    assert abs(found.trace - float(hessian.trace())) < 4 * found.trace_error


@pytest.mark.parametrize("make", [student, cnn])
def test_eigenvalue_and_trace_are_those_of_the_whole_hessian(make):
    network, (pictures, targets) = make(), images(8)
    found = sharpness(network, [(pictures, targets)], GROUPS, tolerance=1e-5, probes=15)
    assert set(found) == {"all", "head", "tail"}
    assert_fits(found["all"], exact(network, pictures, targets))
    for name, classes in GROUPS.items():
        rows = torch.isin(targets, torch.tensor(classes))
        assert_fits(found[name], exact(network, pictures[rows], targets[rows]))
    assert len({round(value.eigenvalue, 4) for value in found.values()}) == 3


def test_of_a_quadratic_it_is_exact():
    # Eigenvalues 2, 5, 1 and -1; a probe's signs see the diagonal whole, and of w2 w3 plus or minus 2.
    def loss(weights, targets):
        w = weights.flatten()
        return (w[0] ** 2 + 2.5 * w[1] ** 2 + w[2] * w[3]).expand(len(targets))

    network, batch = _Weights(nn.Linear(4, 1, bias=False)), (torch.zeros(1, 1), torch.tensor([0]))
    found = sharpness(network, [batch], {}, loss, tolerance=1e-7, probes=500)
    assert found["all"].eigenvalue == pytest.approx(5.0, rel=1e-5)
    assert found["all"].trace == pytest.approx(7.0, abs=4 * found["all"].trace_error)
    assert found["all"].trace_error == pytest.approx(2 / 500**0.5, rel=0.05)


class _Weights(nn.Module):
    """Answers its weights, whatever the images."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, pictures):
        return self.layer.weight


def test_micro_batches_and_batches_change_nothing_but_rounding():
    network, (pictures, targets) = cnn(), images()
    whole = sharpness(network, [(pictures, targets)], GROUPS, batch_size=16)
    order = torch.arange(15, -1, -1)
    loader = [(pictures[rows], targets[rows]) for rows in order.split(5)]
    split = sharpness(network, loader, GROUPS, batch_size=3)
    for name, found in whole.items():
        assert asdict(split[name]) == pytest.approx(asdict(found), rel=1e-3)


def test_a_group_without_an_image_is_absent_and_what_is_ignored_counts_nowhere():
    network, (pictures, targets) = cnn(), images()
    kept = targets < 3
    expected = sharpness(network, [(pictures[kept], targets[kept])], GROUPS)
    assert set(expected) == {"all", "head"}
    assert sharpness(network, [(pictures, targets.where(kept, IGNORED))], GROUPS) == expected
    assert sharpness(network, [(pictures, targets)], {"head": [], "mid": [0]}).keys() == {"all", "mid"}
    assert sharpness(network, [(pictures, torch.full((16,), IGNORED))], GROUPS) == {}
    assert sharpness(network, [], GROUPS) == {}


def test_the_network_stays_as_it_was():
    network = cnn().train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    frozen = sharpness(network, [images()], {})
    assert [module.training for module in network] == [True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())
    assert frozen == sharpness(cnn(), [images()], {})  # weights that are not trained are weights, too


def test_it_works_without_gradients_around_it():
    network = student()
    expected = sharpness(network, [images()], {})
    with torch.no_grad():
        assert sharpness(network, [images()], {}) == expected
    with torch.inference_mode():
        assert sharpness(network, [images()], {}) == expected


def test_weights_that_no_answer_depends_on_are_left_out():
    torch.manual_seed(0)
    network = create_paco_teacher(4, "cifar_resnet8", dim=8, queue_size=16).eval()
    found = sharpness(network, [images(4)], {}, probes=2)
    assert found["all"].eigenvalue > 0


def test_the_students_loss_is_the_mean_of_both_tokens():
    logits = TokenLogits(torch.randn(5, 4), torch.randn(5, 4))
    targets = torch.arange(5) % 4
    both = torch.stack([truth_losses(token, targets) for token in logits])
    torch.testing.assert_close(truth_losses(logits, targets), both.mean(dim=0))
    torch.testing.assert_close(truth_losses(TokenLogits(logits.cls, None), targets), both[0])


def test_images_are_counted_and_weights_that_are_no_numbers_give_none():
    network, (pictures, targets) = cnn(), images()
    counted = {name: value.images for name, value in sharpness(network, [(pictures, targets)], GROUPS).items()}
    assert counted == {"all": 16, "head": 8, "tail": 4}
    with torch.no_grad():
        network[0].weight[0, 0] = torch.nan
    found = sharpness(network, [(pictures, targets)], GROUPS, probes=1)["all"]
    assert all(math.isnan(value) for value in (found.eigenvalue, found.trace, found.trace_error))


def symmetric(eigenvalues, seed=0):
    """A matrix with these eigenvalues, in directions at random."""
    stream = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    turned = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=stream)).Q
    return (turned @ torch.diag(torch.as_tensor(eigenvalues, dtype=torch.float64)) @ turned.T).float()


def find(matrix, tolerance=1e-6, most=100):
    asked = []

    def product(vector):
        asked.append(vector)
        return matrix @ vector

    return largest_eigenvalue(product, random_direction(len(matrix), CPU, 0), tolerance, most), asked


def test_the_largest_of_many_is_found():
    eigenvalues = torch.linspace(-3, 4, 200)
    assert find(symmetric(eigenvalues))[0] == pytest.approx(4.0, rel=1e-4)


def test_it_is_the_largest_and_not_the_largest_in_magnitude():
    assert find(symmetric([-9.0, -1.0, 0.5, 2.0]))[0] == pytest.approx(2.0, rel=1e-5)
    assert find(symmetric([-9.0, -4.0, -1.0]))[0] == pytest.approx(-1.0, rel=1e-4)


def test_it_asks_no_oftener_than_allowed_nor_than_it_needs():
    matrix = symmetric(torch.linspace(0, 1, 200) ** 4)
    assert len(find(matrix, tolerance=0.0, most=7)[1]) == 7
    loose, tight = (len(find(matrix, tolerance=tolerance)[1]) for tolerance in (1e-2, 1e-6))
    assert loose < tight < 60
