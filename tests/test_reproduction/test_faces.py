import pytest

RIGHT, MISPLACED, ALL_WRONG = range(3)


def test_errors_are_relative_to_the_interocular_distance(faces):
    errors = faces.errors()
    assert errors[RIGHT].tolist() == [0.0] * 5
    assert errors[MISPLACED].tolist() == pytest.approx([100 * 401**0.5 / 20, 0, 0, 0, 0])
    assert errors[ALL_WRONG].tolist() == pytest.approx([20.0] * 5)
