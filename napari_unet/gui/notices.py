"""Errors as notifications in the viewer."""

from __future__ import annotations

import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from napari_unet.errors import UnetError

if TYPE_CHECKING:
    from collections.abc import Callable


class Told:
    """A context in which errors become notifications: a sentence if the user can mend them, else with a traceback."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        """Tell, and go on, unless Python itself wants to end."""
        if not isinstance(error, Exception):
            return False
        tell(error)
        return True


def binding(action: Callable[[], Any]) -> Callable[[Any], None]:
    """Return an action as a key binding; napari asks for a function with a name, and calls it with viewer or layer."""

    def pressed(where: Any) -> None:
        del where
        with Told():
            action()

    return pressed


def tell(error: Exception) -> None:
    """Show an error as a notification in the viewer."""
    from napari.utils.notifications import Notification, notification_manager, show_warning

    if isinstance(error, UnetError):
        show_warning(str(error))
        return
    notification = Notification.from_exception(error)
    said = "".join(traceback.format_exception_only(error)).strip()
    with suppress(AttributeError):
        notification.message = f"U-Net met something unforeseen and stopped what it did; nothing was lost. ({said})"
    notification_manager.dispatch(notification)
