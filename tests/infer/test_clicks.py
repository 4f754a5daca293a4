"""Clicks to an outline: where the network looks, what it is shown, and what becomes of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_unet import Model
from napari_unet.errors import ImageError
from napari_unet.infer import clicks
from napari_unet.infer.clicks import SIDE, Outline, Prompt, draw, follow, middle, outline, overlap
from napari_unet.infer.familiar import plane_of
from napari_unet.infer.seen import see
from napari_unet.jobs import run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.infer.familiar import Plane


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.new(width=2, depth=1).with_clicks()


def disks(*places: tuple[int, int, int], shape: tuple[int, int] = (400, 500)) -> NDArray[np.uint8]:
    """Return an image of bright disks of row, column and radius."""
    image = np.zeros(shape, np.uint8)
    rows, columns = np.indices(shape)
    for row, column, radius in places:
        image[np.hypot(rows - row, columns - column) <= radius] = 200
    return image


def plane(model: Model, image: NDArray[Any]) -> Plane:
    return plane_of(see(model, image), (), 2)


def full(shape: tuple[int, ...], found: Outline | None) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    if found is not None:
        mask[found.box] = found.mask
    return mask


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32]]:
    """What the network is shown, in place of which whatever is bright is said to be the object."""
    shown: list[NDArray[np.float32]] = []

    def bright(model: Model, image: NDArray[np.float32], device: str, *, waited_for: bool) -> Any:
        assert waited_for
        shown.append(image)
        yield from ()
        return np.stack((1 - image[0], image[0]))

    monkeypatch.setattr(clicks, "predict_tiles", bright)
    return shown


@pytest.mark.parametrize("radius", [3, 8, 12, 30, 90, 180])
@pytest.mark.parametrize("at", [(200, 250), (5, 250), (398, 2)])
def test_an_object_of_any_size_and_place_is_outlined(
    model: Model, seen: list[Any], radius: int, at: tuple[int, int]
) -> None:
    image = disks((*at, radius))
    found = outline(model, plane(model, image), Prompt((at,)))
    truth, said = image > 0, full(image.shape, found)
    assert (truth & said).sum() / (truth | said).sum() > 0.93
    assert found is not None
    assert not found.cut


def test_of_several_objects_the_clicked_ones_are_meant(model: Model, seen: list[Any]) -> None:
    image = disks((200, 200, 10), (200, 230, 10))
    both = Prompt(((200.0, 200.0), (200.0, 230.0)))
    for prompt, count in ((Prompt(((200.4, 199.6),)), 1), (both, 2)):
        said = full(image.shape, outline(model, plane(model, image), prompt))
        assert said[200, 200]
        assert said[200, 230] == (count == 2)


@pytest.mark.parametrize("at", [(20, 14), (20, 200), (20, 385)])
def test_a_long_object_is_outlined_from_its_end(model: Model, seen: list[Any], at: tuple[int, int]) -> None:
    image = np.zeros((60, 400), np.uint8)
    image[14:28, 10:390] = 200
    said = full(image.shape, outline(model, plane(model, image), Prompt((at,))))
    assert ((image > 0) & said).sum() / ((image > 0) | said).sum() > 0.8


def test_what_is_larger_than_any_crop_is_said_to_be_cut(model: Model, seen: list[Any]) -> None:
    found = outline(
        model,
        (lambda w: np.ones((1, *(s.stop - s.start for s in w)), np.float32), (9000, 9000)),
        Prompt(((4500, 4500),)),
    )
    assert found is not None
    assert found.cut
    assert max(found.mask.shape) <= clicks.MOST


def test_what_was_said_is_shown_where_it_was_said(model: Model, seen: list[Any]) -> None:
    """Half the frame is one side of the mask: what lies at its corner lies a quarter of the crop from the border."""
    image = disks((200, 200, 20))
    mask = Outline((slice(180, 220), slice(180, 220)), np.ones((40, 40), bool))
    outline(model, plane(model, image), Prompt(((180, 180),), ((219, 180),)), mask=mask)
    picture, so_far, inside, outside = seen[0]
    assert picture.shape == (SIDE, SIDE)
    quarter = SIDE / 4
    rows, columns = np.nonzero(so_far)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (
        quarter,
        3 * quarter,
        quarter,
        3 * quarter,
    )
    for map_, at in ((inside, (quarter, quarter)), (outside, (3 * quarter, quarter))):
        np.testing.assert_allclose(np.argwhere(map_ > 0).mean(axis=0), at, atol=1.5)
    bright = np.argwhere(picture > 0.5)
    np.testing.assert_allclose(bright.mean(axis=0), (SIDE / 2, SIDE / 2), atol=2)


def test_a_click_far_away_does_not_lose_the_object(model: Model, seen: list[Any]) -> None:
    image = disks((200, 200, 8), shape=(900, 900))
    said = full(image.shape, outline(model, plane(model, image), Prompt(((200, 200),), ((880, 880),))))
    assert ((image > 0) & said).sum() / ((image > 0) | said).sum() > 0.9


def test_a_piece_clicked_outside_goes_and_the_one_that_it_was_stays(model: Model, seen: list[Any]) -> None:
    image = disks((200, 200, 10), (200, 230, 16))
    mask = Outline((slice(188, 213), slice(188, 213)), np.ones((25, 25), bool))
    for prompt in (Prompt(outside=((200, 230),)), Prompt()):
        said = full(image.shape, outline(model, plane(model, image), prompt, mask=mask))
        assert said[200, 200]
        assert not said[200, 230]


def test_a_hole_that_is_clicked_stays_a_hole(model: Model, seen: list[Any]) -> None:
    image = disks((200, 200, 40))
    image[180:190, 195:205] = image[210:220, 195:205] = 0
    said = full(image.shape, outline(model, plane(model, image), Prompt(((200, 180),), ((185, 200),))))
    assert not said[185, 200]
    assert said[215, 200]


@pytest.mark.parametrize("at", [29.6, 30.0, 30.4])
def test_a_place_lies_in_the_pixel_around_it(model: Model, seen: list[Any], at: float) -> None:
    image = np.zeros((60, 80), np.uint8)
    image[10:50, 30] = image[10:50, 34:41] = 200
    said = full(image.shape, outline(model, plane(model, image), Prompt(((30.0, at),)), width=30))
    assert said[30, 30]
    assert not said[30, 37]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (Prompt(), "Nothing was said"),
        (Prompt(outside=((3, 3),)), "Nothing was said"),
        (Prompt(((-100, 20),)), "beyond the plane"),
        (Prompt(((20, 20),), ((20, 1000),)), "beyond the plane"),
        (Prompt(((np.nan, 20),)), "beyond the plane"),
        (Prompt(box=(slice(5, 5), slice(0, 9))), "box"),
        (Prompt(box=(slice(None), slice(0, 9))), "box"),
    ],
)
def test_what_says_nothing_of_the_plane_is_refused(model: Model, prompt: Prompt, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        outline(model, plane(model, np.eye(50)), prompt)


def test_a_model_that_segments_is_refused() -> None:
    plain = Model.new(width=2, depth=1)
    with pytest.raises(ImageError, match="segments images"):
        outline(plain, plane(plain, np.eye(50)), Prompt(((3, 3),)))


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1), (5, 7)])
def test_planes_of_any_shape(model: Model, seen: list[Any], shape: tuple[int, int]) -> None:
    found = outline(
        model, (lambda w: np.ones((1, *(s.stop - s.start for s in w)), np.float32), shape), Prompt(((0, 0),))
    )
    assert full(shape, found).all()


def test_a_box_is_enough(model: Model, seen: list[Any]) -> None:
    image = disks((100, 100, 20), (100, 150, 20))
    assert outline(model, plane(model, image), Prompt(box=(slice(128, 172), slice(128, 172)))) is None  # nothing in it
    found = outline(model, plane(model, image), Prompt(box=(slice(78, 122), slice(128, 172))))
    said = full(image.shape, found)
    assert said[100, 150]
    assert not said[100, 100]
    assert seen[-1][1].any()


def test_only_a_window_is_read(model: Model, seen: list[Any]) -> None:
    read: list[tuple[slice, ...]] = []

    def window(where: tuple[slice, ...]) -> NDArray[np.float32]:
        read.append(where)
        return np.ones((1, *(s.stop - s.start for s in where)), np.float32) * (len(read) == 2)

    outline(model, (window, (10**6, 10**6)), Prompt(((5e5, 5e5),)))
    assert all(s.stop - s.start <= 400 for where in read for s in where)


def test_holes_are_filled_and_nothing_is_none(model: Model, seen: list[Any]) -> None:
    image = disks((200, 200, 30))
    image[195:205, 195:205] = 0
    found = outline(model, plane(model, image), Prompt(((180, 200),)))
    assert full(image.shape, found)[200, 200]
    assert outline(model, plane(model, np.zeros((50, 50))), Prompt(((20, 20),))) is None


def test_an_object_is_followed_through_its_slices_and_no_farther(model: Model, seen: list[Any]) -> None:
    slices = np.zeros((20, 200, 200), np.uint8)
    for z in range(4, 13):  # a ball that drifts, and another one above it
        slices[z] = disks((80 + 3 * z, 90, round((36 - 1.4 * (z - 8) ** 2) ** 0.5 * 3)), shape=(200, 200))
    for z in range(15, 20):
        slices[z] = disks((80 + 3 * z, 90, 12), shape=(200, 200))
    start = outline(model, plane(model, slices[8]), Prompt(((104, 90),)))
    assert start is not None
    through = run(follow(model, lambda z: plane(model, slices[z]), 20, 8, start))
    assert sorted([*through, 8]) == list(range(4, 13))
    for z, found in through.items():
        np.testing.assert_allclose(middle(found), (80 + 3 * z, 90), atol=1.5)


def test_overlap_is_that_of_the_pixels() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        whole, found = np.zeros((2, 30, 30), bool), []
        for mask in whole:
            (top, left), (height, width) = random.integers(0, 15, 2), random.integers(1, 15, 2)
            part = random.random((height, width)) > 0.3
            part[0, 0] = True
            mask[top : top + height, left : left + width] = part
            found.append(Outline((slice(top, top + height), slice(left, left + width)), part))
        assert overlap(*found) == pytest.approx((whole[0] & whole[1]).sum() / (whole[0] | whole[1]).sum())


@pytest.mark.parametrize("at", [(0, 0), (-2, 5), (SIDE + 1, SIDE - 1), (-50, 300), (64, 64)])
def test_a_click_at_or_beyond_the_edge_is_drawn_as_far_as_it_is_seen(at: tuple[int, int]) -> None:
    map_ = np.zeros((SIDE, SIDE), np.float32)
    draw(map_, at)
    rows, columns = np.indices(map_.shape)
    np.testing.assert_array_equal(map_ > 0, np.hypot(rows - at[0], columns - at[1]) <= clicks.RADIUS)


def test_a_colour_model_sees_a_grey_image_three_times(seen: list[Any]) -> None:
    model = Model.new(width=2, depth=1, channels="rgb").with_clicks()
    grey = disks((50, 50, 9), shape=(90, 90))
    for image in (grey, np.repeat(grey[..., None], 3, -1)):
        said = full(grey.shape, outline(model, plane(model, image), Prompt(((50, 50),)), width=20))
        assert said[50, 50]
    np.testing.assert_allclose(seen[0][:3], seen[-1][:3], atol=1e-6)


def test_it_segments_no_image_by_itself(model: Model) -> None:
    for use in (model.segment, model.predict):
        with pytest.raises(ImageError, match="outlines what is clicked"):
            use(np.zeros((20, 20)))
