import math

import pytest
import torch

from deitlt.analysis.curvature import largest_eigenvalue, random_direction, random_signs

CPU = torch.device("cpu")


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


def test_one_direction_and_none_are_found():
    assert find(torch.tensor([[5.0]]))[0] == pytest.approx(5.0)
    assert find(torch.zeros(6, 6))[0] == 0.0
    assert find(3 * torch.eye(50))[0] == pytest.approx(3.0)


def test_it_never_overestimates_and_comes_nearer_with_each_product():
    matrix = symmetric(torch.linspace(0, 1, 300) ** 2)
    found = [find(matrix, tolerance=0.0, most=most)[0] for most in (1, 2, 4, 8, 16, 32)]
    assert found == sorted(found)
    assert found[0] < 0.6
    assert 0.99 < found[-1] <= 1 + 1e-5


def test_it_asks_no_oftener_than_allowed_nor_than_it_needs():
    matrix = symmetric(torch.linspace(0, 1, 200) ** 4)
    assert len(find(matrix, tolerance=0.0, most=7)[1]) == 7
    loose, tight = (len(find(matrix, tolerance=tolerance)[1]) for tolerance in (1e-2, 1e-6))
    assert loose < tight < 60


def test_it_is_never_below_the_power_iteration_after_as_many_products():
    matrix = symmetric(torch.linspace(0, 1, 300))
    vector = random_direction(300, CPU, 0)
    for _ in range(11):
        vector = matrix @ (vector / vector.norm())
    vector = vector / vector.norm()
    power = float(vector @ matrix @ vector)  # which took a twelfth product
    assert find(matrix, tolerance=0.0, most=12)[0] > power + 1e-3


def test_random_vectors_depend_on_their_key_alone():
    signs = random_signs(10_000, CPU, 0, 1)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.05
    assert torch.equal(signs, random_signs(10_000, CPU, 0, 1))
    assert not torch.equal(signs, random_signs(10_000, CPU, 0, 2))
    assert torch.equal(random_direction(9, CPU, 3), random_direction(9, CPU, 3))
    assert not torch.equal(random_direction(9, CPU, 3), random_direction(9, CPU, 4))


def test_a_product_that_is_no_number_ends_it():
    value, asked = find(torch.full((3, 3), torch.nan))
    assert math.isnan(value)
    assert len(asked) == 1
