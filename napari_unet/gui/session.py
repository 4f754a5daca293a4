"""What the sections of the dock share: image, model, labels and the job that runs; made by the dock, handed down."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_unet.errors import UnetError
from napari_unet.gui.journals import SessionJournal
from napari_unet.gui.layers import Source, choices_of_axes, is_image, look_at, may_paint
from napari_unet.gui.leftovers import Leftovers
from napari_unet.gui.models import ModelEntry, known_models
from napari_unet.gui.one_job import OneJob
from napari_unet.gui.strokes import Annotation
from napari_unet.store.actions import Runs, bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer

    from napari_unet.gui.on_disk import OnDisk
    from napari_unet.gui.regions import Region
    from napari_unet.learn.train import TrainResult
    from napari_unet.store.actions import Action

KEPT = "napari-unet"  # in a labels layer's metadata: what a closed dock knew of it


class Session(OneJob):
    """The state behind the dock.

    Parameters
    ----------
    viewer : Viewer
        Itself, not the proxy that napari hands to widgets: layers are compared by identity.
    """

    image_changed = Signal()  # another image, other data in it, or other axes
    model_changed = Signal()
    models_changed = Signal()
    labels_changed = Signal()  # another labels layer
    corrections_changed = Signal()
    result_changed = Signal()  # a fine-tuned model waits for Keep or Discard, or no longer

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.models: list[ModelEntry] = known_models()
        self.model: ModelEntry | None = self.models[0] if len(self.models) > 1 else None
        self.image: Image | None = None
        self.source: Source | None = None  # what the image is to the model
        self.trouble = ""  # why there is an image but no source
        self.choices: list[str] = []  # axes that the image may have
        self.channel: int | None = None
        self.diameter: float | None = None
        self.result: TrainResult | None = None
        self.corrected = 0  # changes of corrections so far
        self.learned_from = 0  # that many of them a model has learned from
        self.learned = False  # a model was kept and the image not segmented since
        self.gesture = False  # the mouse draws with a tool of ours
        self.thresholds: Callable[[], dict[str, Any]] = dict  # and device, as they were set in step 2
        self.leftovers = Leftovers()  # of earlier sessions
        self._journal = SessionJournal()
        self._axes: dict[int, str] = {}  # by id of an image layer that is in the viewer
        self._settings: dict[int, tuple[int | None, float | None]] = {}
        self._pairs: dict[int, Labels] = {}
        self._large: dict[int, Source] = {}  # by id of an image too large to hold all of its labels
        self._windows: dict[int, Source] = {}  # by id of a layer with labels of a part of such an image
        self.on_disk: dict[int, OnDisk] = {}  # by id of such an image: all of its labels
        self._annotations: dict[int, Annotation] = {}
        self._take_over()
        self.leftovers.start()
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active)
        viewer.layers.events.inserted.connect(self._on_active)
        self._on_active()

    # ---- image

    def _on_active(self, event: Any = None) -> None:
        """Follow the active image; if something else is active, stay, or take the topmost image."""
        if event is not None and event.type == "inserted" and self.image is not None:
            return  # labels that a run adds do not bring back the image that is selected
        active, now = self.viewer.layers.selection.active, self.image
        if id(active) in self._windows:  # of several parts that one is meant whose labels are selected
            self.set_labels(active)
        if is_image(active):
            wanted: Image | None = active
        elif now is not None and now in self.viewer.layers:
            wanted = now
        else:
            images = [layer for layer in self.viewer.layers if is_image(layer)]
            wanted = images[-1] if images else None
        if wanted is not now:
            self.set_image(wanted)

    def set_image(self, layer: Image | None) -> None:
        """Work on another image, or look at the same one again."""
        if layer is not self.image:
            self._watch(layer)
            self.channel, self.diameter = self._settings.get(id(layer), (None, None))
        self.source, self.trouble, self.choices = None, "", []
        if layer is not None:
            try:
                self.choices = choices_of_axes(layer)
                self.source = self.source_of(layer)
            except UnetError as error:
                self.trouble = str(error)
        self.image_changed.emit()
        self.labels_changed.emit()
        self.corrections_changed.emit()

    def _watch(self, layer: Image | None) -> None:
        """Follow what changes in this layer, instead of the one before."""
        if self.image is not None:
            self.image.events.data.disconnect(self._on_data)
            self.image.events.name.disconnect(self._on_data)
        self.image = layer
        if layer is not None:
            layer.events.data.connect(self._on_data)
            layer.events.name.connect(self._on_data)

    def source_of(self, layer: Image) -> Source:
        """Return what an image is to the model; of a large one the window whose labels are chosen, if there is one."""
        axes, known = self.axes_of(layer), self._windows.get(id(self._pairs.get(id(layer))))
        if known is not None and known.is_current() and known.axes == axes:
            return known
        return self.whole_of(layer)

    def whole_of(self, layer: Image) -> Source:
        """Return what all of an image is to the model."""
        axes, known = self.axes_of(layer), self._large.get(id(layer))
        if known is None or not known.is_current() or known.axes != axes:
            known = look_at(layer, axes)
            self._large = {key: each for key, each in self._large.items() if key != id(layer)}
            if known.large:
                self._large[id(layer)] = known  # it keeps what was measured
        return known

    def axes_of(self, layer: Image) -> str:
        """Return the axes that the user chose for a layer, or the likely ones."""
        possible = choices_of_axes(layer)
        chosen = self._axes.get(id(layer), "")
        return chosen if chosen in possible else possible[0]

    def set_axes(self, axes: str) -> None:
        """Say what the axes of the image are."""
        if self.image is not None and axes != self.axes_of(self.image):
            self._axes[id(self.image)] = axes
            self.set_image(self.image)

    def set_how(self, channel: int | None, diameter: float | None) -> None:
        """Say which channel shows the objects, and how wide they are."""
        self.channel, self.diameter = channel, diameter
        if self.source is not None:
            self._settings[id(self.source.layer)] = (channel, diameter)

    def how(
        self, layer: Image, otherwise: tuple[int | None, float | None] = (None, None)
    ) -> tuple[int | None, float | None]:
        """Return channel and diameter of an image, or others if nobody chose any for it."""
        return self._settings.get(id(layer), otherwise)

    def _on_data(self, event: Any = None) -> None:
        del event
        self.set_image(self.image)

    def _on_removed(self, event: Any) -> None:
        layer: Layer = event.value
        annotation = self._annotations.pop(id(layer), None)
        if annotation is not None:
            for disk in self.on_disk.values():
                disk.leave(annotation)
            annotation.close()
        self._pairs = {key: labels for key, labels in self._pairs.items() if labels is not layer and key != id(layer)}
        self._axes.pop(id(layer), None)
        self._settings.pop(id(layer), None)
        self._large.pop(id(layer), None)
        window = self._windows.pop(id(layer), None)
        for key, disk in list(self.on_disk.items()):
            if layer is disk.layer or key == id(layer):
                self.on_disk.pop(key).close()
        if self.image is layer:
            if self.busy in ("segment", "diameter"):
                self.cancel()
            self.set_image(None)
            self._on_active()
        elif window is not None and window is self.source:
            self.set_image(self.image)
        elif annotation is not None:
            self.labels_changed.emit()
            self.corrections_changed.emit()

    # ---- model

    def set_model(self, entry: ModelEntry, parent: ModelEntry | None = None) -> None:
        """Use another model; if it was taught from `parent`, it goes on with what that one proposed."""
        if entry not in self.models:
            self.models.insert(0, entry)
            self.models_changed.emit()
        if entry is not self.model:
            self.model = entry
            for annotation in self._annotations.values():
                annotation.choose(entry, parent)
            self.model_changed.emit()

    # ---- labels

    @property
    def unlearned(self) -> bool:
        """Whether there are corrections that no model has learned from."""
        return self.corrected > self.learned_from

    @property
    def labels(self) -> Labels | None:
        """The labels layer of the image, if there is one that fits it."""
        return self.labels_of(self.source)

    def labels_of(self, source: Source | None) -> Labels | None:
        """Return the labels layer of an image, if there is one that fits it."""
        labels = self._pairs.get(id(source.layer)) if source else None
        return labels if labels is not None and self._fits(labels, source) else None

    @property
    def annotation(self) -> Annotation | None:
        """What is known by hand about the labels of the image."""
        return self.annotation_of(self.source)

    def annotation_of(self, source: Source | None) -> Annotation | None:
        """Return what is known by hand about the labels of an image."""
        labels = self.labels_of(source)
        return self._annotations.get(id(labels)) if labels is not None else None

    def set_labels(
        self,
        labels: Labels,
        *,
        foreign: bool = False,
        first: Runs | None = None,
        done: Sequence[Action] = (),
        source: Source | None = None,
        apart: bool = False,
    ) -> None:
        """Correct this layer of labels for an image.

        Parameters
        ----------
        labels : Labels layer
            It fits the image.
        foreign : bool
            Its labels come from elsewhere than a model.
        first, done : Runs, sequence of Action
            What its labels were first, and what was done to them since; default: they are as they were.
        source : Source, optional
            The image, by default the present one.
        apart : bool
            Whether labels of a window have nothing to do with those of the image on the disk.
        """
        source = source or self._windows.get(id(labels)) or self.source
        if source is None or labels is self.labels_of(source):
            return
        self._pairs[id(source.layer)] = labels
        if source.window is not None:
            self._windows[id(labels)] = source
        if id(labels) not in self._annotations:
            annotation = Annotation(labels, foreign=foreign, model=self.model, done=done)
            self._adopt(annotation, source.name, first, done)
            self.corrected += annotation.known()  # what was restored is to be learned from
            disk = None if apart else self.on_disk.get(id(source.layer))
            if source.window is not None and disk is not None:
                disk.follow(annotation, source.window)
        if source.layer is self.image and source is not self.source:
            self.source = source
            self.image_changed.emit()
        self.labels_changed.emit()
        self.corrections_changed.emit()

    def _adopt(self, annotation: Annotation, image: str, first: Runs | None, done: Sequence[Action]) -> None:
        """Follow an annotation, and keep its journal."""
        labels = annotation.layer
        annotation.page = self._journal.page(annotation, image, first, done)
        annotation.changed.connect(self._on_corrected)
        annotation.replaced.connect(self.labels_changed.emit)
        self._annotations[id(labels)] = annotation

    def _on_corrected(self, by_hand: bool) -> None:
        self.corrected += by_hand
        self.corrections_changed.emit()

    def _take_over(self) -> None:
        """Go on with what a dock that was closed knew; it left that with the labels layers."""
        from napari.layers import Labels

        for labels in [layer for layer in self.viewer.layers if isinstance(layer, Labels)]:
            image, window, annotation, path, chosen, was = labels.metadata.pop(KEPT, (None,) * 6)
            self.leftovers.pass_over(path)
            if image is None or image not in self.viewer.layers:
                continue
            if chosen:
                self._pairs[id(image)] = labels
            annotation.watch(self.model)
            self._adopt(annotation, image.name if window is None else window.name, None, ())
            if window is not None:
                self._windows[id(labels)] = window
            if was is not None:
                with suppress(UnetError):
                    if (disk := self.disk_of(self.whole_of(image))) is not None:  # it may have been painted meanwhile
                        disk.follow(annotation, window.window, bounds(labels.data != was.unpack()))

    def disk_of(self, image: Source) -> OnDisk | None:
        """Return the labels of a large image on the disk; those that a layer shows are taken over."""
        from napari_unet.gui.on_disk import taken_over

        if id(image.layer) not in self.on_disk and (disk := taken_over(image, self.viewer.layers, self.on_disk)):
            self.on_disk[id(image.layer)] = disk
        return self.on_disk.get(id(image.layer))

    def windows_of(self, image: Image) -> list[tuple[Annotation, Region]]:
        """Return what is known by hand in the windows of a large image, and where these are."""
        pairs = [(each, self._windows.get(key)) for key, each in self._annotations.items()]
        sources = [(each, source) for each, source in pairs if source and source.layer is image and source.is_current()]
        return [(each, source.window) for each, source in sources if source.window]

    def candidates(self) -> list[Labels]:
        """Return the labels layers that fit the image, and can be painted."""
        from napari.layers import Labels

        labels = [layer for layer in self.viewer.layers if isinstance(layer, Labels)]
        return [layer for layer in labels if self._belongs(layer) or self._fits(layer, self.source)]

    def _belongs(self, labels: Labels) -> bool:
        """Return whether labels are of a window of the image."""
        window = self._windows.get(id(labels))
        return window is not None and window.layer is self.image

    def _fits(self, labels: Labels, source: Source | None) -> bool:
        """Return whether labels are of this window; of an image that is held whole, whether they fit it."""
        window = self._windows.get(id(labels))
        return may_paint(labels, source) and window is (None if source is None or source.window is None else source)

    def annotated(self) -> list[tuple[Source, Annotation]]:
        """Return the images in the viewer, or windows of them, with corrections, and these."""
        found = []
        for layer in self.viewer.layers:
            windows = [each for each in self._windows.items() if each[1].layer is layer and each[1].is_current()]
            if not windows and (labels := self._pairs.get(id(layer))) is not None:
                with suppress(UnetError):  # its axes were changed since
                    windows = [(id(labels), self.whole_of(layer))]
            for key, source in windows:
                annotation = self._annotations.get(key)
                if annotation is not None and annotation.known():
                    found.append((source, annotation))
        return found

    def set_result(self, result: TrainResult | None) -> None:
        """Offer a fine-tuned model, or stop offering it."""
        self.result = result
        self.result_changed.emit()

    # ---- the end

    def close(self) -> None:
        """Let go of the viewer and end the job; touches no widget, so it may come after they are gone."""
        if self.closed:
            return
        self.closed = True
        layers = self.viewer.layers
        layers.events.removed.disconnect(self._on_removed)
        layers.events.inserted.disconnect(self._on_active)
        layers.selection.events.active.disconnect(self._on_active)
        self._watch(None)
        for annotation in self._annotations.values():
            annotation.settle()  # nothing stays half written
        on_disk: dict[int, Runs] = {}
        for disk in self.on_disk.values():
            layers_of = [each.layer for each in disk.followed]
            disk.close()
            for layer in layers_of:  # what the disk refused is tried again by the next dock
                there = np.asarray(layer.data)
                on_disk[id(layer)] = Runs.pack(there) if disk.settled else Runs.empty(there.shape, there.dtype)
        self.on_disk = {}
        for annotation in self._annotations.values():
            annotation.close()
        of = {id(labels): image for image in layers if (labels := self._pairs.get(id(image))) is not None}
        for key, annotation in self._annotations.items():
            window = self._windows.get(key)
            if (image := of.get(key) if window is None else window.layer) is not None:
                path, chosen = self._journal.path, key in of
                annotation.layer.metadata[KEPT] = (image, window, annotation, path, chosen, on_disk.get(key))
        self._annotations, self._pairs, self._windows, self._large = {}, {}, {}, {}
        for name in vars(type(self)):
            if isinstance(vars(type(self))[name], Signal):
                getattr(self, name).disconnect()
        super().close()
        self._journal.end()
        self.leftovers.close()
