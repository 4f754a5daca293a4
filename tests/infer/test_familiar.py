"""An image that only the base of a fine-tuned model knows is segmented by the base, and every other one is not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_unet import Model
from napari_unet.infer import familiar
from napari_unet.infer.familiar import FEW, choose, planes_of, remembering, signature, signatures
from napari_unet.infer.segment import see, segment_job
from napari_unet.jobs import run

if TYPE_CHECKING:
    from numpy.typing import NDArray


def kind(number: int, period: int, shape: tuple[int, ...] = (64, 64)) -> NDArray[Any]:
    """Return an image of stripes of some width, with noise."""
    random = np.random.default_rng((number, period))
    image = 100 * (np.indices(shape).sum(axis=0) // period % 2) + random.normal(100, 8, shape)
    return np.asarray(image, np.float32)


def planes(model: Model, images: list[NDArray[Any]]) -> Any:
    return planes_of(see(model, image).read()[0] for image in images)


@pytest.fixture(scope="module")
def base() -> Model:
    """A model that knows fine stripes."""
    model = Model.new(width=4, depth=2, name="stripes")
    known = run(signatures(model, planes(model, [kind(i, 2) for i in range(FEW + 4)])))
    return replace(model, familiar=known)


@pytest.fixture(scope="module")
def tuned(base: Model) -> Model:
    """A model that then learned broad stripes."""
    model = run(remembering(base, planes(base, [kind(i, 9) for i in range(3)])))
    return replace(model, network=Model.new(width=4, depth=2, seed=1).network, name="tuned")


def chosen(model: Model, image: NDArray[Any]) -> tuple[Model, list[str]]:
    return run(choose(model, see(model, image)))


def test_each_kind_is_for_the_model_that_learned_it(base: Model, tuned: Model) -> None:
    for number in range(50, 55):
        found, said = chosen(tuned, kind(number, 2))
        assert found is base
        assert said == ["with 'stripes', since the image is like those it knew and unlike the corrected ones"]
        assert chosen(tuned, kind(number, 9)) == (tuned, [])


def test_what_neither_knows_is_for_the_one_that_was_asked_for(tuned: Model) -> None:
    strange = np.random.default_rng(0).random((64, 64)) ** 8
    assert chosen(tuned, strange)[0] is tuned


def test_a_corrected_image_is_for_the_model_that_learned_it_even_if_the_base_knew_it(base: Model) -> None:
    model = run(remembering(base, planes(base, [kind(0, 2)])))
    for number in range(5):  # and so are images like it
        assert chosen(model, kind(number, 2))[0] is model


def test_segment_and_predict_do_as_the_base_does_and_say_so(base: Model, tuned: Model) -> None:
    image = kind(60, 2)
    np.testing.assert_array_equal(tuned.predict(image, device="cpu"), base.predict(image, device="cpu"))
    np.testing.assert_array_equal(tuned.segment(image, device="cpu"), base.segment(image, device="cpu"))
    assert any("with 'stripes'" in note for note in run(segment_job(tuned, image)).notes)
    other = kind(60, 9)
    alone = replace(tuned, base=None)
    np.testing.assert_array_equal(tuned.predict(other, device="cpu"), alone.predict(other, device="cpu"))
    stack = np.stack([kind(i, 2) for i in range(3)])
    np.testing.assert_array_equal(tuned.segment(stack, axes="ZYX"), base.segment(stack, axes="ZYX"))


def test_nobody_looks_at_images_where_there_is_no_base_or_it_knows_too_few(
    base: Model, tuned: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(tuned, base=replace(base, familiar=base.familiar[: FEW - 1] if base.familiar is not None else None))
    monkeypatch.setattr(familiar, "signature", None)
    for model in (base, few, replace(tuned, base=None), replace(tuned, familiar=None)):
        assert chosen(model, kind(0, 2))[0] is model


def test_a_model_that_knows_no_images_remembers_nothing() -> None:
    model = Model.new(width=2, depth=1)
    assert run(remembering(model, planes(model, [kind(0, 2)]))) is model


def test_of_a_large_image_only_windows_are_read(base: Model) -> None:
    read: list[tuple[slice, ...]] = []

    def window(where: tuple[slice, ...]) -> NDArray[np.float32]:
        read.append(where)
        return np.zeros((1, *(s.stop - s.start for s in where)), np.float32)

    found = run(signature(base, (window, (10**6, 300))))
    assert found.shape == (9, 4 + 8 + 8)
    assert found.dtype == np.float32
    assert len(read) == 6
    assert max(s.stop for s, _ in read) == 10**6


def test_colour_models_look_at_grey_images() -> None:
    model = Model.new(width=2, depth=1, channels="rgb")
    image = np.random.default_rng(0).random((1, 20, 20), dtype=np.float32)
    grey, colour = run(signatures(model, planes_of([image, np.repeat(image, 3, axis=0)])))
    np.testing.assert_array_equal(grey, colour)


def test_so_many_images_are_remembered_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiar, "MOST", 3)
    model = Model.new(width=2, depth=1)
    images = planes(model, [kind(i, 3, (16, 16)) for i in range(8)])
    found = run(signatures(model, images))
    assert found.shape == (3, 9, 2 + 2)
    np.testing.assert_array_equal(found, run(signatures(model, images)))
