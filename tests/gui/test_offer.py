"""What a session that crashed had done is offered with its image, and restored as it was."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_unet.gui import journals
from napari_unet.gui.leftovers import Leftovers
from napari_unet.gui.session import Session
from napari_unet.jobs import run
from napari_unet.store.journal import DAMAGED


@pytest.fixture
def crashed(desk):
    """What a dock knew that was killed after a run, a stroke and a mark: labels and states."""
    at = desk(np.random.default_rng(0).integers(0, 200, (96, 96)).astype(np.uint8))
    at.click(at.dock.segment.start)
    at.wait()
    at.click(at.dock.correct.tools.new)
    at.paint((20, 20), (30, 40))
    at.press(Qt.Key.Key_T)
    at.more()
    at.click(at.dock.correct.accept)
    annotation = at.session.annotation
    known = annotation.layer.data.copy(), annotation.state()
    at.session._journal._file.close()
    at.session._journal._file = None  # the dock is closed later, and must not end it well
    at.session._journal.over = True
    at.viewer.close()
    return known


def ended() -> list[bool]:
    return [path.suffix == journals.ENDED for path in sorted(journals.folder().iterdir())]


def test_what_a_crash_left_is_restored_beside_what_is_there(desk, crashed) -> None:
    at = desk(np.zeros((96, 96), np.uint8))
    offer, labels = at.dock.offer, at.viewer.add_labels(np.ones((96, 96), np.uint32), name="cells_unet_labels")
    at.wait(lambda: not offer.isHidden())
    assert "4 actions from " in offer.line.text()
    assert "damaged" not in offer.line.text()
    at.click(offer.restore)
    assert "Restored 4 actions from " in offer.line.text()
    assert not offer.restore.isVisibleTo(at.dock)
    restored = at.session.labels
    assert restored is not labels
    assert (labels.data == 1).all()
    assert restored.name.startswith("cells_unet_labels")
    np.testing.assert_array_equal(restored.data, crashed[0])
    np.testing.assert_array_equal(at.session.annotation.state(), crashed[1])
    assert at.dock.correct.count.text() == "1 tile confirmed, 1 object accepted, 1 stroke"
    assert at.dock.next_step() == 3, "it can be learned from"
    assert any(layer.name.endswith("_confirmed") for layer in at.viewer.layers)
    assert ended() == [True, False], "the journal of this session has all of it"
    for _ in range(4):
        at.click(at.dock.correct.back)
    assert not restored.data.any()
    assert not at.session.annotation.known()
    at.viewer.close()
    assert not Leftovers().of("cells", (96, 96)), "all of it was taken back"


def test_what_is_restored_survives_the_next_crash(desk, crashed) -> None:
    at = desk(np.zeros((96, 96), np.uint8))
    at.wait(lambda: not at.dock.offer.isHidden())
    at.click(at.dock.offer.restore)
    at.session._journal._file.close()
    left = Leftovers()
    run(left.read())
    (kept,) = left.of("cells", (96, 96))
    np.testing.assert_array_equal(kept.now(), crashed[0])
    assert len(kept.actions) == 4
    left.close()


def test_what_does_not_fit_is_not_offered_and_waits(desk, crashed) -> None:
    at = desk(np.zeros((96, 96), np.uint8), show=False, name="others")
    offer = at.dock.offer
    at.wait(lambda: at.session.leftovers._worker.join(0))
    at.qtbot.wait(50)
    assert offer.isHidden()
    at.viewer.add_image(np.zeros((50, 50), np.uint8), name="cells")
    assert at.session.source.shape == (50, 50)
    assert offer.isHidden()
    at.viewer.close()
    assert ended() == [False]


def test_what_is_discarded_is_not_offered_again(desk, crashed) -> None:
    at = desk(np.zeros((96, 96), np.uint8))
    at.wait(lambda: not at.dock.offer.isHidden())
    at.click(at.dock.offer.discard)
    assert at.dock.offer.isHidden()
    assert at.session.labels is None
    assert ended() == [True]
    session = Session(at.viewer)
    at.wait(lambda: session.leftovers._worker.join(0))
    assert not session.leftovers.of("cells", (96, 96))
    session.close()


def test_what_a_disk_damaged_is_said_and_what_came_before_is_restored(desk, crashed) -> None:
    (path,) = journals.folder().iterdir()
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    for start in range(2):  # also when nobody answered at the first start
        at = desk(np.zeros((96, 96), np.uint8))
        offer = at.dock.offer
        at.wait(lambda offer=offer: not offer.isHidden())
        copy = next(each for each in journals.folder().iterdir() if each.suffix == DAMAGED)
        assert "3 actions from " in offer.line.text()
        assert f"what followed is damaged, and all of it is kept in {copy.name}." in offer.line.text().replace(
            "\u200b", ""
        )
        assert offer.line.minimumSizeHint().width() < 250, "it wraps"
        assert offer.line.toolTip() == str(copy)
        assert copy.read_bytes() == bytes(data)
        if start:
            at.click(offer.restore)
            assert at.session.annotation.strokes == 1
            np.testing.assert_array_equal(at.session.labels.data, crashed[0])
            assert "Restored 3 actions" in offer.line.text()
        at.viewer.close()
    assert copy.exists()


def test_a_journal_that_is_damaged_from_the_beginning_is_told_of(desk, crashed, told) -> None:
    (path,) = journals.folder().iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes(20) + data[80:])
    at = desk(np.zeros((96, 96), np.uint8))
    at.wait(lambda: bool(told))
    assert "nothing of it can be restored: a copy is kept at" in told[0]
    assert at.dock.offer.isHidden()
    assert data[80:] in b"".join(each.read_bytes() for each in journals.folder().glob(f"*{DAMAGED}"))
