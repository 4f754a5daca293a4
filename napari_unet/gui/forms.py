"""A form from a settings record: its fields' metadata give bounds, unit and help; magicgui makes the widgets."""

from __future__ import annotations

import types
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from magicgui.widgets import CheckBox, ComboBox, create_widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QLabel, QSizePolicy, QWidget

from napari_unet.infer.device import DEVICES

if TYPE_CHECKING:
    from magicgui.widgets.bases import ValueWidget as _ValueWidget

    ValueWidget = _ValueWidget[Any]

STEP = 0.05  # of thresholds


class Form:
    """Widgets for some fields of a settings record.

    A field that may be None shows, at the bottom of its range, that the model's own value is taken.

    Parameters
    ----------
    record : dataclass type
        With ``min``, ``max``, ``unit`` and ``help`` in its fields' metadata.
    names : sequence of str
        The fields, in order.
    unset : str
        What stands where a value is None.
    """

    def __init__(self, record: type[Any], names: tuple[str, ...], unset: str = "model’s own") -> None:
        self._optional: dict[str, float] = {}  # the value that stands for None
        self._kinds: dict[str, type] = {}
        hints = get_type_hints(record)
        by_name = {field.name: field for field in fields(record)}
        self._widgets: dict[str, ValueWidget] = {
            name: self._widget(name, hints[name], by_name[name].default, by_name[name].metadata, unset)
            for name in names
        }
        self.native = QWidget()
        rows = QFormLayout(self.native)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        for widget in self._widgets.values():
            title = QLabel("" if isinstance(widget, CheckBox) else widget.label)  # a box has its name beside it
            title.setToolTip(widget.tooltip)
            rows.addRow(title, widget.native)

    def values(self) -> dict[str, Any]:
        """Return the values by field name, None where nothing is set."""
        found = {name: widget.value for name, widget in self._widgets.items()}
        for name, lowest in self._optional.items():
            found[name] = None if found[name] == lowest else self._kinds[name](found[name])
        return found

    def set(self, name: str, value: Any) -> None:
        """Set one field."""
        self._widgets[name].value = self._optional[name] if value is None else value

    def reset(self) -> None:
        """Take the model's own value wherever that is possible."""
        for name, lowest in self._optional.items():
            self._widgets[name].value = lowest

    def _widget(self, name: str, hint: Any, default: Any, said: Any, unset: str) -> ValueWidget:
        unit = said.get("unit", "")
        text, tip = name.replace("_", " ") + (f" ({unit})" if unit not in ("", name) else ""), said.get("help", "")
        if name == "device":
            return ComboBox(name=name, label=text, choices=list(DEVICES), value=default, tooltip=tip)
        optional = get_origin(hint) in (types.UnionType, Union)
        kind = next(each for each in get_args(hint) if each is not type(None)) if optional else hint
        if kind is bool:
            flag: Any = create_widget(default, name=name, label=text, annotation=bool, options={"tooltip": tip})
            flag.native.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # keys go on to the image
            flag.native.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
            return flag
        self._kinds[name] = kind
        low, high = said["min"], said["max"]
        step = 1 if kind is int or high > 1 else STEP if optional else default / 5
        least = low - step if optional else low
        options = {"min": least, "max": high, "step": step, "tooltip": tip}
        shown = float if optional else kind  # only boxes of floats can show words at the end of their range
        value = shown(least if optional else default)
        made: Any = create_widget(value, name=name, label=text, annotation=shown, options=options)
        box: Any = made.native
        box.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # the wheel scrolls the dock, not the value
        if shown is float:
            box.setDecimals(0 if kind is int else 2 if optional else 6)
        if optional:
            self._optional[name] = made.value
            box.setSpecialValueText(unset)
        return made
