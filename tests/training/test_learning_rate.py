import pytest

from dietnerf.training.learning_rate import Exponential, LogLinear


def test_authors_law():
    law = Exponential()
    assert law(0, 200_000) == 5e-4
    assert law(200_000, 200_000) == pytest.approx(1.99e-4, rel=1e-2)


def test_log_linear_law():
    law = LogLinear(5e-4, 5e-6)
    assert law(0, 1000) == pytest.approx(5e-4)
    assert law(500, 1000) == pytest.approx(5e-5)
    assert law(1000, 1000) == pytest.approx(5e-6) == law(2000, 1000)


def test_delay_starts_low_and_ends_on_the_law():
    law, plain = LogLinear(delay_steps=100, delay_factor=0.01), LogLinear()
    assert law(0, 1000) == pytest.approx(0.01 * plain(0, 1000))
    assert law(100, 1000) == pytest.approx(plain(100, 1000))
