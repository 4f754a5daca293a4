"""The errors are kept apart from those that libraries swallow."""

from __future__ import annotations

import pytest

from napari_unet import errors

ALL = [value for value in vars(errors).values() if isinstance(value, type)]


@pytest.mark.parametrize("error", ALL)
def test_one_except_catches_them_all_and_superqt_swallows_none(error: type[Exception]) -> None:
    assert issubclass(error, errors.UnetError)
    assert not issubclass(error, RuntimeError)
