from pathlib import Path

import numpy as np
import pytest

from deitlt.errors import ConfigError
from deitlt.optim import ConstantRho, LinearRho, StepRho

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "lr_schedule.npz")


def test_constant_rho():
    assert {ConstantRho(0.8)(epoch) for epoch in (0, 5, 199)} == {0.8}


def test_steps_equal_the_authors():
    rho = StepRho({0: 0.05, 5: 0.1, 160: 0.5, 180: 0.6})
    np.testing.assert_allclose([rho(e) for e in range(200)], GOLDEN["teacher_cifar_ldam_rho_step"], rtol=1e-9)


def test_steps_in_any_order():
    rho = StepRho({60: 0.5, 0: 0.05, 5: 0.1})
    assert [rho(epoch) for epoch in (0, 4, 5, 59, 60, 1000)] == [0.05, 0.05, 0.1, 0.1, 0.5, 0.5]


def test_line_equals_the_authors_in_their_float16():
    rho = LinearRho(0.05, 0.8, 200)
    ours = np.array([rho(epoch) for epoch in range(200)], dtype=np.float16)
    np.testing.assert_array_equal(ours, GOLDEN["teacher_cifar_ldam_rho_linear_0.05_0.8_float16"])


def test_line_stays_at_its_end_and_may_be_one_epoch():
    assert LinearRho(0.1, 0.5, 5)(4) == LinearRho(0.1, 0.5, 5)(99) == 0.5
    assert LinearRho(0.1, 0.5, 1)(0) == 0.1
    assert LinearRho(0.5, 0.1, 3)(1) == pytest.approx(0.3)


@pytest.mark.parametrize(
    "make", [lambda: ConstantRho(-0.1), lambda: StepRho({0: -0.1}), lambda: LinearRho(0.1, -0.1, 5)]
)
def test_negative_rho_is_named(make):
    with pytest.raises(ConfigError, match=r"=-0\.1 must be 0 or more"):
        make()


@pytest.mark.parametrize("values", [{5: 0.1}, {}])
def test_steps_need_epoch_zero(values):
    with pytest.raises(ConfigError, match=r"no rho for epoch 0: type values=\{0: 0\.05"):
        StepRho(values)


def test_line_needs_an_epoch():
    with pytest.raises(ConfigError, match="epochs=0"):
        LinearRho(0.1, 0.2, 0)
