"""The tool in hand: one tool of ours at a time has the mouse on the labels, as napari's own tools have it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_unet.errors import DataError, ImageError
from napari_unet.gui.notices import binding
from napari_unet.gui.regions import region_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari.layers import Labels

    from napari_unet.gui.regions import Region
    from napari_unet.gui.session import Session
    from napari_unet.gui.strokes import Annotation

AWAY = ("Escape", "z", "6")  # napari's keys for no tool; its mode is that already while one of ours is in hand
PAN = "Space"


class Hand:
    """Lends the mouse to a tool, and gives it back when another one is taken.

    Parameters
    ----------
    session : Session
        Its labels are what tools work on.
    """

    changed = Signal()  # another tool is in hand, or none

    def __init__(self, session: Session) -> None:
        self.tool = ""  # in hand
        self._session = session
        self._layer: Labels | None = None  # that it is held over
        self._press: Callable[[Labels, Any], Iterator[None]] | None = None
        self._keys: tuple[str, ...] = ()
        session.labels_changed.connect(self._on_labels)
        session.viewer.layers.selection.events.active.connect(self._end_strokes)

    def take(
        self,
        tool: str,
        press: Callable[[Labels, Any], Iterator[None]],
        keys: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        """Take a tool in hand, or put it away if it is there.

        Parameters
        ----------
        tool : str
            Its name.
        press : callable
            Follows the mouse from press to release, as napari's drag callbacks do.
        keys : mapping, optional
            What its keys do; the others of `AWAY` put it away.
        """
        session, labels, again = self._session, self._session.labels, tool == self.tool
        self.put_away()
        if labels is None or again:
            return
        selection = session.viewer.layers.selection
        selection.active = labels
        if not labels.visible:  # to set it puts napari's tools away
            labels.visible = True
        labels.mode = "pan_zoom"  # napari has no mode for it: it lends the mouse, and its other tools take it back
        labels.mouse_pan, labels.cursor = False, "cross"
        self._press = partial(self._follow, press)
        labels.mouse_drag_callbacks.append(self._press)
        labels.events.mode.connect(self._on_other)
        selection.events.active.connect(self._on_other)
        session.viewer.dims.events.ndisplay.connect(self.put_away_in_3d)
        actions: dict[str, Callable[[], None]] = dict.fromkeys(AWAY, self.put_away) | dict(keys or {})
        for key, action in actions.items():
            labels.bind_key(key, binding(action), overwrite=True)
        labels.bind_key(PAN, self._pan, overwrite=True)
        self._layer, self._keys, self.tool = labels, (*actions, PAN), tool
        self.changed.emit()

    def put_away(self) -> None:
        """Give the mouse back to napari."""
        layer, self._layer, self.tool = self._layer, None, ""
        if layer is None:
            return
        self._session.gesture = False  # napari may never tell its end
        layer.mouse_drag_callbacks.remove(self._press)
        layer.events.mode.disconnect(self._on_other)
        self._session.viewer.layers.selection.events.active.disconnect(self._on_other)
        self._session.viewer.dims.events.ndisplay.disconnect(self.put_away_in_3d)
        for key in self._keys:
            layer.bind_key(key, None)
        if str(layer.mode) == "pan_zoom":
            layer.mouse_pan, layer.cursor = True, "standard"
        self.changed.emit()

    def put_away_in_3d(self, event: Any = None) -> None:
        """Give the mouse back when there is no plane to work in any more: it turns the volume there."""
        del event
        if self._session.viewer.dims.ndisplay != 2:
            self.put_away()

    def plane(self) -> tuple[Labels | None, Region]:
        """Return the labels and the plane that is shown; no labels if there are none that can be changed now.

        Raises
        ------
        UnetError
            If no plane of them is shown.
        """
        session, labels, annotation = self._session, self._session.labels, self._session.annotation
        if labels is None or annotation is None or session.source is None or labels._block_history:  # in a stroke
            return None, ()
        if labels.ndim < 2:
            raise ImageError(f"{labels.name!r} has no rows and columns, so there are no objects to correct in it.")
        if session.viewer.dims.ndisplay != 2:
            raise ImageError("Switch to 2-D first, so that it is clear which plane is meant.")
        if not labels.visible:
            raise DataError(f"{labels.name!r} is hidden: show it first, with the eye in the list of layers.")
        annotation.settle()
        return labels, region_of(session.viewer, session.source, "slice", labels)

    def close(self) -> None:
        """Give the mouse back; nobody is told, since the dock is gone."""
        self.changed.disconnect()
        self._session.viewer.layers.selection.events.active.disconnect(self._end_strokes)
        self.put_away()

    def _on_other(self, event: Any = None) -> None:
        """Put the tool away when one of napari's is taken, or another layer."""
        del event
        layer = self._layer
        if layer is None:
            return
        if str(layer.mode) != "pan_zoom" or self._session.viewer.layers.selection.active is not layer:
            self.put_away()

    def _end_strokes(self, event: Any = None) -> None:
        """End strokes on layers that are active no more: the mouse's release goes to the one that is.

        Else runs would wait for ever for the hand to be lifted.
        """
        del event
        layers = self._session.viewer.layers
        for layer in list(layers):
            if getattr(layer, "_block_history", False) and layer is not layers.selection.active:
                _end_stroke(layer)

    def _on_labels(self) -> None:
        if self._layer is not self._session.labels:
            self.put_away()

    def _follow(self, press: Callable[[Labels, Any], Iterator[None]], layer: Labels, event: Any) -> Iterator[None]:
        """Follow a gesture, unless the mouse moves the image."""
        if layer.mouse_pan:
            return
        self._session.gesture = True
        try:
            yield from press(layer, event)
        finally:
            self._session.gesture = False

    def _pan(self, layer: Any) -> Iterator[None]:
        """Let the mouse move the image while the key is down."""
        layer.mouse_pan = True
        yield
        if self._layer is not None and self._layer is layer:
            self._layer.mouse_pan = False


def _end_stroke(layer: Labels) -> None:
    """End a stroke of napari's tools: what is painted stays, a line around that is not closed goes."""
    from napari.layers.labels._labels_mouse_bindings import draw

    stroke, around = layer._mouse_drag_gen.pop(draw, None), layer._overlays["brush_stroke"]
    if stroke is not None:
        del layer._persisted_mouse_event[stroke]
        stroke.close()
        layer._commit_staged_history()
    if around.active:
        around.abort(layer)


def is_down(session: Session, annotation: Annotation | None = None) -> bool:
    """Return whether the mouse draws: a gesture of ours, or a stroke on the active layer or on labels that are given.

    Meanwhile nothing may move the view, take the active layer's place or write into labels.
    """
    layers = [session.viewer.layers.selection.active, annotation.layer if annotation is not None else None]
    return session.gesture or any(getattr(layer, "_block_history", False) for layer in layers)
