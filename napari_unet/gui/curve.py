"""The live curves of a training: the score on held-out corrections above, the loss below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.gui.look import GOOD

if TYPE_CHECKING:
    from napari_unet.gui.look import Theme


class Curve(QWidget):
    """Two plots over the same steps; pyqtgraph is imported here, when the first curve is wanted.

    Parameters
    ----------
    theme : Theme
        For the colours.
    """

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        import pyqtgraph as pg

        self._graph = pg.GraphicsLayoutWidget()
        self.setFixedHeight(190)
        self._graph.ci.layout.setSpacing(2)
        self._graph.ci.setContentsMargins(0, 2, 4, 0)
        self.score = self._graph.addPlot(row=0, col=0)
        self.loss = self._graph.addPlot(row=1, col=0)
        self.score.setXLink(self.loss)
        self.score.setYRange(0, 1, padding=0.18)
        self.score.getAxis("left").setStyle(hideOverlappingLabels=False)
        self.score.getAxis("left").setTicks([[(0, "0"), (0.5, ".5"), (1, "1")]])
        self.score.hideAxis("bottom")
        for plot in (self.score, self.loss):
            plot.setMenuEnabled(False)
            plot.setMouseEnabled(False, False)
            plot.hideButtons()
            plot.getAxis("left").setWidth(48)
            plot.getAxis("left").enableAutoSIPrefix(False)
            plot.showGrid(y=True, alpha=0.15)
        self._scores = self.score.plot(symbol="o", symbolSize=6)
        self._losses = self.loss.plot()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._graph)
        self.set_theme(theme)
        self.clear()

    def set_theme(self, theme: Theme) -> None:
        """Draw in the colours of a theme."""
        import pyqtgraph as pg

        self._graph.setBackground(theme.background)
        for plot, text in ((self.score, "score"), (self.loss, "loss")):
            axis = plot.getAxis("left")
            axis.setLabel(text, color=theme.quiet.name())
            for each in (axis, plot.getAxis("bottom")):
                each.setPen(theme.quiet)
                each.setTextPen(theme.quiet)
        green = QColor(GOOD)
        self._scores.setPen(pg.mkPen(green, width=2))
        self._scores.setSymbolBrush(green)
        self._scores.setSymbolPen(green)
        self._losses.setPen(pg.mkPen(theme.accent, width=1.5))

    def clear(self) -> None:
        """Begin anew."""
        self._points: dict[str, tuple[list[float], list[float]]] = {"score": ([], []), "loss": ([], [])}
        self._draw()

    def add(self, step: int, steps: int, values: dict[str, float]) -> None:
        """Add what is known of a step, of so many there will be: ``loss``, ``score``, both or neither."""
        self.loss.setXRange(0, max(steps, 1), padding=0.02)
        for name, (xs, ys) in self._points.items():
            value = values.get(name, math.nan)
            if math.isfinite(value):
                xs.append(step)
                ys.append(value)
        self._draw()

    def _draw(self) -> None:
        self._scores.setData(*self._points["score"])
        self._losses.setData(*self._points["loss"])

    def points(self, name: str) -> int:
        """Return how many points a curve has."""
        return len(self._points[name][0])
