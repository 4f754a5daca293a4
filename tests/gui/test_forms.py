"""A form says what its record says: fields, bounds, defaults; and None where nothing is set."""

from __future__ import annotations

import pytest

from napari_unet.gui.finetune_section import SETTINGS
from napari_unet.gui.forms import Form
from napari_unet.gui.segment_section import THRESHOLDS
from napari_unet.infer.segment import SegmentSettings
from napari_unet.learn.settings import TrainSettings


@pytest.mark.parametrize(("record", "names"), [(SegmentSettings, THRESHOLDS), (TrainSettings, SETTINGS)])
def test_an_untouched_form_gives_the_defaults(qtbot, record: type, names: tuple[str, ...]) -> None:
    form = Form(record, names)
    qtbot.addWidget(form.native)
    assert record(**form.values()) == record()


def test_what_is_set_comes_out(qtbot) -> None:
    form = Form(SegmentSettings, THRESHOLDS)
    qtbot.addWidget(form.native)
    for name, value in {"foreground": 0.35, "seed": 0.0, "min_size": 40, "flips": True, "device": "cpu"}.items():
        form.set(name, value)
    values = form.values()
    assert values == {
        "foreground": pytest.approx(0.35),
        "seed": 0.0,
        "boundary": None,
        "min_size": 40,
        "flips": True,
        "device": "cpu",
    }
    assert isinstance(values["min_size"], int)
    form.reset()
    assert form.values()["foreground"] is None


def test_each_line_has_its_help(qtbot) -> None:
    form = Form(TrainSettings, SETTINGS)
    qtbot.addWidget(form.native)
    assert all(widget.tooltip for widget in form._widgets.values())
