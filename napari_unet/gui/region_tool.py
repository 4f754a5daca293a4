"""The Region tool: draw around a part of the image, and the model finds the objects in it once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import DataError, UnetError
from napari_unet.gui.object_tools import STILL, Line
from napari_unet.gui.regions import around

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.gui.hand import Hand
    from napari_unet.gui.session import Session

TOOL = "region"
LEAST = 16  # pixels: a smaller outline holds no object


class RegionTool:
    """Draws in the image of a session.

    Parameters
    ----------
    session : Session
        What the sections share.
    hand : Hand
        What lends the mouse.
    tell : callable
        Shows a line to the user.
    again : callable
        Segments what lies in an outline ``(n, (y, x))`` in pixels of the labels; returns whether it could begin.
    """

    def __init__(
        self,
        session: Session,
        hand: Hand,
        tell: Callable[[str], None],
        again: Callable[[NDArray[np.float64]], bool],
    ) -> None:
        self._session, self._hand = session, hand
        self._tell, self._again = tell, again
        self._drawing = False
        self._line = Line(session.viewer)  # stays to be seen as long as the model looks
        hand.changed.connect(self._on_hand)
        session.busy_changed.connect(self._on_busy)
        session.viewer.dims.events.current_step.connect(self._on_plane)

    def take(self) -> None:
        """Take the tool in hand, or put it away if it is there."""
        self._hand.take(TOOL, self._on_press, {"Escape": self.drop})

    def drop(self) -> None:
        """Drop the drawing under way; if there is none, put the tool away."""
        if not self._drawing:
            self._hand.put_away()
            return
        self._drawing = False
        self._line.remove()

    def close(self) -> None:
        """Leave nothing on the canvas; touches no widget."""
        self._session.viewer.dims.events.current_step.disconnect(self._on_plane)
        self._drawing = False
        self._line.remove()

    def _on_hand(self) -> None:
        if self._hand.tool != TOOL and self._drawing:
            self.drop()

    def _on_plane(self, event: Any = None) -> None:
        del event
        self._drawing = False  # it was begun in another plane
        self._line.remove()

    def _on_busy(self) -> None:
        if not self._session.busy and not self._drawing:
            self._line.remove()

    def _on_press(self, layer: Labels, event: Any) -> Iterator[None]:
        """Follow the mouse from press to release, and draw where it was."""
        if event.button != 1 or not layer.visible:
            return
        path, places, shown = [event.position], [event.pos], list(event.dims_displayed)[::-1]
        self._drawing = True
        yield
        while event.type == "mouse_move":
            path.append(event.position)
            places.append(event.pos)
            if self._drawing:
                self._line.show(layer, np.array([*path, path[0]])[:, shown])
            yield
        if not self._drawing:  # dropped, or the tool was put away
            return
        self._drawing = False
        with self._session.told():
            clicked = np.ptp(np.array([*places, event.pos]), axis=0).max() < STILL
            if clicked or not self._segment(path):
                self._line.remove()
            if clicked:
                self._tell("Hold the mouse button down and draw around the cells that are to be found once more.")

    def _segment(self, path: list[Any]) -> bool:
        """Segment what lies in a line of places in the world; return whether it began, and say why not."""
        try:
            labels, plane = self._hand.plane()
            if labels is None:
                return False
            outline = np.array([labels.world_to_data(place) for place in path], float)[:, -2:]
            _, inside = around(outline, plane, 0)
            if not inside.size:
                raise DataError("The outline lies beside the image: draw it around cells in the image.")
            if (pixels := int(np.count_nonzero(inside))) < LEAST:
                raise DataError(
                    f"The outline holds {pixels} pixels, and at least {LEAST} are needed: draw it around whole cells."
                )
            if self._session.model is None:
                raise DataError("No model is chosen: choose one in step 1, then draw again.")
            if not self._again(outline):
                raise DataError("Something else is still running: draw again when it has ended.")
        except UnetError as error:
            self._tell(str(error))
            return False
        return True
