"""The versions of the model, in step 4: what each scored and learned from; use, compare, rename, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QFileSystemWatcher, Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import ModelFileError
from napari_unet.gui import models, runs
from napari_unet.gui.comparing import Comparison
from napari_unet.gui.look import Theme, icon, label, say, tool_button
from napari_unet.gui.version_rows import Rows, Version, is_shipped
from napari_unet.learn.outcome import outcome
from napari_unet.model import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.models import ModelEntry
    from napari_unet.gui.session import Session
    from napari_unet.model_file import Head

SETTLE = 200  # ms that the folder is left alone before it is read: a file is written in several steps
SEEN = 6  # versions that are seen at once
TOOLS = {  # icon, text, tip
    "use": ("check", "Use", "Go on with this version (or double-click it). All others stay as they are."),
    "compare": (
        "move_front",
        "Compare",
        "Hold this version against the one in use: scores on the tiles that you called right,\n"
        "and what they find otherwise in the part that is in view.",
    ),
    "rename": ("line", "Rename", "Give this version another name (F2)."),
    "export": ("pop_out", "Export", "Save a copy of this version to a file of its own, to give away or to keep."),
}


class Versions(QWidget):
    """Lists the versions, and does what is asked with one of them.

    Parameters
    ----------
    session : Session
        What the sections share.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._rows = Rows()
        self._shown: list[Version] = []
        self.list = QListWidget()
        self.list.setObjectName("versions")
        self.list.setItemDelegate(self._rows)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.tools: dict[str, QToolButton] = {}
        actions: dict[str, Callable[[], Any]] = {
            "use": self.use,
            "compare": self.compare,
            "rename": self.edit_name,
            "export": self.choose_file,
        }
        for name, action in actions.items():
            self.tools[name] = tool_button(*TOOLS[name][1:], action, checkable=False)
        self.note, self.broken = label("", "quiet"), label("", "warn")
        self.comparison = Comparison(session)
        bench = QHBoxLayout()
        bench.setContentsMargins(0, 0, 0, 0)
        bench.setSpacing(3)
        for tool in self.tools.values():
            bench.addWidget(tool, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.list)
        column.addLayout(bench)
        for widget in (self.note, self.broken, self.comparison):
            column.addWidget(widget)
        self._watcher = QFileSystemWatcher(self)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self.look)
        self._watcher.directoryChanged.connect(lambda *_: self._later.start(SETTLE))
        self.list.currentRowChanged.connect(lambda *_: self.show_busy())
        self.list.itemDoubleClicked.connect(lambda *_: self.use())
        self.list.itemChanged.connect(self._on_named)
        self._rows.closeEditor.connect(lambda *_: self._later.start(0))
        session.models_changed.connect(self.show_versions)
        session.model_changed.connect(self.show_versions)
        session.busy_changed.connect(self.show_busy)
        session.image_changed.connect(self.show_busy)
        self.look()

    def set_theme(self, theme: Theme) -> None:
        """Colour icons and list."""
        for name, tool in self.tools.items():
            tool.setIcon(icon(TOOLS[name][0], theme.icon))
        self._rows.theme = theme

    # ---- shows

    def look(self) -> None:
        """Follow what was done to the user's folder of models."""
        session = self.session
        if session.closed:
            return
        if session.busy == "save" or self._rows.editing:
            self._later.start(SETTLE)
            return
        where = models.folder()
        if where.is_dir() and str(where) not in self._watcher.directories():
            self._watcher.addPath(str(where))
        before = [(id(entry), entry.name) for entry in session.models]
        session.models[:] = models.follow(session.models, session.model)
        if [(id(entry), entry.name) for entry in session.models] != before:
            session.models_changed.emit()
        else:
            self.show_versions()  # a file may hold something else now

    def showEvent(self, event: Any) -> None:
        """Look again whenever the part is opened: not every disk tells what changed on it."""
        super().showEvent(event)
        self._later.start(0)

    def show_versions(self) -> None:
        """Show the versions as they are, the newest first."""
        if self.isHidden() or self._rows.editing:
            return
        chosen = self.chosen()
        self._shown, trouble = self._versions()
        self.list.blockSignals(True)
        self.list.clear()
        for version in self._shown:
            item = QListWidgetItem(version.entry.name)
            item.setData(Qt.ItemDataRole.UserRole, version)
            item.setToolTip(version.tip)
            if _is_own(version.entry):
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            self.list.addItem(item)
        entries = [version.entry for version in self._shown]
        wanted = chosen.entry if chosen is not None else self.session.model
        self.list.setCurrentRow(entries.index(wanted) if wanted in entries else 0)
        self.list.blockSignals(False)
        rows = max(1, min(len(entries), SEEN))
        self.list.setFixedHeight(rows * self._rows.height(self.list) + 2 * self.list.frameWidth())
        say(self.broken, trouble)
        self.show_busy()

    def show_busy(self) -> None:
        """Show what can be done now with the version that is chosen."""
        session, version = self.session, self.chosen()
        free = version is not None and not session.busy
        other = free and version is not None and not version.used
        self.tools["use"].setEnabled(other)
        self.tools["compare"].setEnabled(other and session.model is not None and session.source is not None)
        self.tools["rename"].setEnabled(free and version is not None and _is_own(version.entry))
        self.tools["export"].setEnabled(free)

    def chosen(self) -> Version | None:
        """Return the version that is selected in the list."""
        item = self.list.currentItem()
        return item.data(Qt.ItemDataRole.UserRole) if item is not None else None

    def _versions(self) -> tuple[list[Version], str]:
        """Return the versions, the newest first, and what to say of files that are none."""
        heads: dict[ModelEntry, Head] = {}
        unread: list[tuple[str, str]] = []
        used = self.session.model
        for entry in self.session.models:
            try:
                head = entry.head()
            except ModelFileError as error:
                unread.append((entry.path.name if entry.path is not None else entry.name, str(error)))
            else:
                if head is not None and head.task != "clicks" and entry.name != models.UNTRAINED:
                    heads[entry] = head
        names = {head.version: entry.name for entry, head in heads.items() if head.version}
        found = []
        for entry, head in heads.items():
            came = outcome(head.provenance)
            parent = names.get(head.provenance.parent or "", came.start)
            found.append(Version(entry, head, came, "" if is_shipped(entry) else parent, entry is used))
        roots = {version.parent for version in found}
        listed = [v for v in found if v.used or not is_shipped(v.entry) or v.entry.name in roots]
        listed.sort(key=lambda v: (not is_shipped(v.entry), v.head.provenance.date), reverse=True)
        if len(unread) < 2:
            return listed, unread[0][1] if unread else ""
        return listed, f"These model files cannot be read: {', '.join(name for name, _ in unread)}."

    # ---- does

    def use(self) -> None:
        """Go on with the chosen version; what is wrong with its file is said before anything changes."""
        session, version = self.session, self.chosen()
        if version is None or version.used or session.busy:
            return
        entry = version.entry

        def opened(_: Any) -> None:
            session.set_model(entry)
            say(self.note, f"“{entry.name}” is in use: segment again to see what it finds.")

        session.run("open", lambda: runs.load(entry), opened)

    def compare(self) -> None:
        """Hold the chosen version against the one in use."""
        version, used = self.chosen(), self.session.model
        if version is not None and used is not None and not version.used:
            say(self.note, "")
            self.comparison.start(version.entry, used)

    def edit_name(self) -> None:
        """Open the name of the chosen version for editing."""
        item = self.list.currentItem()
        if item is not None:
            self.list.editItem(item)

    def _on_named(self, item: QListWidgetItem) -> None:
        """Rename a version as the user wrote it."""
        version: Version = item.data(Qt.ItemDataRole.UserRole)
        entry, name = version.entry, item.text()
        self.list.blockSignals(True)
        item.setText(entry.name)  # until it is done
        self.list.blockSignals(False)
        if name == entry.name:
            return
        if self.session.busy:
            say(self.note, "Wait until the other work has ended, then rename it.")
            return

        def done(path: Path) -> None:
            entry.moved(path)
            say(self.note, f"It is called “{entry.name}” now.")
            self.session.models_changed.emit()

        self.session.run("save", lambda: runs.write(entry, lambda _: models.rename(entry, name)), done)

    def choose_file(self) -> None:
        """Ask where to, and save a copy of the chosen version there."""
        version = self.chosen()
        if version is None:
            return
        name = f"{version.entry.name}{SUFFIX}"
        path, _ = QFileDialog.getSaveFileName(self, "Export the model", name, f"U-Net models (*{SUFFIX})")
        if path:
            self.export(path)

    def export(self, path: str | Path) -> None:
        """Save a copy of the chosen version, whole or not at all."""
        version = self.chosen()
        if version is None:
            return
        where = Path(path)
        if where.suffix != SUFFIX:
            where = Path(f"{path}{SUFFIX}")
            if where.exists():  # nobody was asked about this one
                say(self.note, f"{where.name} is there already: choose that file to replace it, or another name.")
                return

        def saved(path: Path) -> None:
            say(self.note, f"Saved as {path}.")

        entry = version.entry
        self.session.run("save", lambda: runs.write(entry, lambda model: model.save(where)), saved)

    def close_part(self) -> None:
        """Let go of the viewer's layers."""
        self.comparison.close_part()


def _is_own(entry: ModelEntry) -> bool:
    """Return whether its file lies in the user's folder of models, so that it may be renamed."""
    return entry.path is not None and entry.path.parent == models.folder()
