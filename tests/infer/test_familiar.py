"""An image that only the base of a fine-tuned model knows is segmented by the base, and every other one is not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_unet import Model
from napari_unet.infer import familiar
from napari_unet.infer.familiar import FEW, MOST, choose, memory_after, planes_of, signature, signatures
from napari_unet.infer.seen import see
from napari_unet.infer.segment import SegmentSettings, segment_job
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


def learned(model: Model, images: list[NDArray[Any]], seed: int = 1) -> Model:
    """Return a model as after fine-tuning on images, with other weights."""
    memory = run(memory_after(model, planes(model, images)))
    return replace(model, network=Model.new(width=4, depth=2, seed=seed).network, name="tuned", **memory)


@pytest.fixture(scope="module")
def base() -> Model:
    """A model that knows fine stripes."""
    model = Model.new(width=4, depth=2, name="stripes")
    known = run(signatures(model, planes(model, [kind(i, 2) for i in range(FEW + 4)])))
    return replace(model, familiar=known)


@pytest.fixture(scope="module")
def tuned(base: Model) -> Model:
    """A model that then learned broad stripes."""
    return learned(base, [kind(i, 9) for i in range(3)])


def chosen(model: Model, image: NDArray[Any]) -> tuple[Model, list[str]]:
    return run(choose(model, planes(model, [image])[0]))


def test_each_kind_is_for_the_model_that_learned_it(base: Model, tuned: Model) -> None:
    for number in range(50, 55):
        found, said = chosen(tuned, kind(number, 2))
        assert found is base
        assert "with 'stripes'" in said[0]
        assert "base=false" in said[0]
        assert chosen(tuned, kind(number, 9)) == (tuned, [])


@pytest.mark.parametrize("period", [1, 4, 5, 16, 31])
def test_what_neither_knows_is_for_the_one_that_was_asked_for(tuned: Model, period: int) -> None:
    for strange in (kind(0, period), np.random.default_rng(0).random((64, 64)) ** 8, np.full((64, 64), 7.0)):
        assert chosen(tuned, strange)[0] is tuned


def test_a_model_corrected_on_images_that_its_base_knew_is_asked_about_all(base: Model) -> None:
    model = learned(base, [kind(0, 2)])
    for number in range(30):
        assert chosen(model, kind(number, 2))[0] is model


def test_a_kind_is_no_longer_for_the_base_once_it_was_corrected(tuned: Model) -> None:
    assert chosen(tuned, kind(50, 2))[0] is tuned.base
    again = learned(tuned, [kind(50, 2)], seed=2)
    assert again.base is tuned.base
    assert again.familiar is not None
    assert len(again.familiar) == 4
    for number in range(50, 55):  # it, and its like
        assert chosen(again, kind(number, 2))[0] is again


def test_segment_and_predict_do_as_the_base_does_and_say_so(base: Model, tuned: Model) -> None:
    image = kind(60, 2)
    np.testing.assert_array_equal(tuned.predict(image, device="cpu"), base.predict(image, device="cpu"))
    np.testing.assert_array_equal(tuned.segment(image, device="cpu"), base.segment(image, device="cpu"))
    found = run(segment_job(tuned, image))
    assert found.model is base
    assert any("with 'stripes'" in note for note in found.notes)
    other = kind(60, 9)
    alone = replace(tuned, base=None)
    np.testing.assert_array_equal(tuned.predict(other, device="cpu"), alone.predict(other, device="cpu"))
    assert run(segment_job(tuned, other)).model is tuned


def test_who_wants_the_model_itself_gets_it(base: Model, tuned: Model) -> None:
    image = kind(60, 2)
    found = run(segment_job(tuned, image, settings=SegmentSettings(base=False)))
    assert found.model is tuned
    alone = replace(tuned, base=None)
    np.testing.assert_array_equal(found.labels, alone.segment(image))
    masks = [(image > 150).astype(int) + (image > 200)]
    asked, itself = (tuned.evaluate([image], masks, settings=SegmentSettings(base=way)) for way in (True, False))
    assert asked.to_dict()["per_image"][0]["segmented_by"] == "stripes"
    assert "segmented by 'stripes'" in asked.table()
    assert "segmented by" not in itself.table()


def test_a_stack_is_judged_by_its_middle(base: Model, tuned: Model) -> None:
    fine, broad = [kind(i, 2) for i in range(3)], [kind(i, 9) for i in range(3)]
    assert run(segment_job(tuned, np.stack([broad[0], fine[1], broad[2]]), "ZYX")).model is base
    assert run(segment_job(tuned, np.stack([fine[0], broad[1], fine[2]]), "ZYX")).model is tuned
    black = np.zeros_like(fine[0])
    assert run(segment_job(tuned, np.stack([broad[0], black, broad[2]]), "ZYX")).model is tuned


def test_nobody_looks_at_images_where_there_is_no_base_or_all_are_of_one_kind(
    base: Model, tuned: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = learned(base, [kind(0, 2)])
    monkeypatch.setattr(familiar, "signature", None)
    for model in (base, same, replace(tuned, base=None), replace(tuned, familiar=None)):
        assert chosen(model, kind(0, 2))[0] is model
    other = replace(tuned, normalisation=(5.0, 95.0))  # its images look otherwise to the base
    assert chosen(other, kind(0, 2))[0] is other


def test_features_that_are_no_numbers_are_not_for_the_base(tuned: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiar, "features", lambda *_: np.full(20, np.nan, np.float32))
    assert chosen(tuned, kind(0, 2))[0] is tuned


def test_a_model_that_hardly_knows_its_own_images_is_no_base(base: Model) -> None:
    assert base.familiar is not None
    for known in (None, base.familiar[: FEW - 1]):
        model = replace(base, familiar=known)
        assert run(memory_after(model, planes(model, [kind(0, 9)]))) == {}
    assert run(memory_after(base, planes(base, [np.zeros((64, 64))]))) == {}


def test_an_image_is_remembered_once_however_many_rounds_and_files(tuned: Model, tmp_path: Any) -> None:
    again = Model.load(tuned.save(tmp_path / "it.unet"))
    memory = run(memory_after(again, planes(again, [kind(i, 9) for i in range(3)])))
    assert len(memory["familiar"]) == 3


def test_so_many_images_are_remembered_the_latest_of_all(tuned: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiar, "MOST", 3)
    memory = run(memory_after(tuned, planes(tuned, [kind(9, 9)])))
    assert len(memory["familiar"]) == 3
    latest = run(signature(tuned.base or tuned, planes(tuned, [kind(9, 9)])[0]))
    np.testing.assert_array_equal(memory["familiar"][0], latest)


def test_of_a_large_image_only_windows_are_read(base: Model) -> None:
    read: list[tuple[slice, ...]] = []

    def window(where: tuple[slice, ...]) -> NDArray[np.float32]:
        read.append(where)
        shape = tuple(s.stop - s.start for s in where)
        return np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)

    found = run(signature(base, (window, (10**6, 400))))
    assert found is not None
    assert found.shape == (4, 4 + 8 + 8)
    assert found.dtype == np.float32
    assert len(read) == 4
    assert max(s.stop for s, _ in read) == 10**6


def test_where_the_corners_are_empty_more_windows_are_looked_into(base: Model) -> None:
    image = np.zeros((1000, 1000))
    image[500:530, 480:520] = kind(0, 2, (30, 40))
    found = run(signature(base, planes(base, [image])[0]))
    assert found is not None
    assert found.shape == (4, 4 + 8 + 8)


def test_colour_models_look_at_grey_images() -> None:
    model = Model.new(width=2, depth=1, channels="rgb")
    image = np.random.default_rng(0).random((1, 20, 20), dtype=np.float32)
    found = run(signatures(model, planes_of([image, np.repeat(image, 3, axis=0)])))
    assert found is not None
    np.testing.assert_array_equal(*found)


def test_of_many_images_some_are_drawn_by_their_shares_always_the_same() -> None:
    model = Model.new(width=2, depth=1)
    images = planes(model, [kind(i, 3, (16, 16)) for i in range(MOST + 44)])
    shares = [0.0] * 44 + [1.0] * MOST
    found = run(signatures(model, images, shares))
    assert found is not None
    assert found.shape == (MOST, 4, 2 + 2)
    np.testing.assert_array_equal(found, run(signatures(model, images, shares)))
    first = run(signature(model, images[0]))
    assert not (found == first).all(axis=(1, 2)).any()
