"""Windows of a GTK program, by way of the accessibility bus: found and used as a screen reader does it.

For scripts that the system's Python runs (Atspi comes with the distribution) inside `dbus-run-session`.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gi  # type: ignore[import-not-found]

gi.require_version("Atspi", "2.0")
gi.require_version("Gdk", "3.0")
from gi.repository import Atspi, Gdk, GLib  # type: ignore[import-not-found]  # noqa: E402

warnings.simplefilter("ignore", DeprecationWarning)
_EVENTS = ("object:children-changed", "object:state-changed", "object:property-change", "window")
_SECONDS = 60


class Program:
    """A program on the bus, once it is there."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._heard = Atspi.EventListener.new(lambda event: None)
        for kind in _EVENTS:
            self._heard.register(kind)

    def until(self, what: Callable[[], Any]) -> Any:
        """What `what` returns, as soon as that is something. Looks again whenever windows change."""
        context = GLib.MainContext.default()
        over: list[bool] = []
        ends = GLib.timeout_add_seconds(_SECONDS, over.append, True)
        # A list's new line is not always told.
        again = GLib.timeout_add_seconds(1, lambda: True)
        try:
            while not (found := _tried(what)):
                if over:
                    raise TimeoutError(f"what should come does not; there is:\n{self.text()}")
                context.iteration(True)
                while context.pending():
                    context.iteration(False)
            return found
        finally:
            GLib.source_remove(again)
            if not over:
                GLib.source_remove(ends)

    def text(self) -> str:
        """All that can be seen."""
        lines = []
        for window in self._windows():
            lines += [
                "  " * depth + f"{one.get_role_name()} {one.get_name()!r}" for one, depth in _all(window)
            ]
        return "\n".join(lines)

    def window(self, title: str) -> Any:
        """The window whose title has this in it."""
        return self.until(lambda: next((one for one in self._windows() if title in one.get_name()), None))

    def closed(self, title: str) -> None:
        """Wait until no window has it."""
        self.until(lambda: all(title not in one.get_name() for one in self._windows()))

    def named(self, window: Any, name: str, role: str | None = None) -> Any:
        """What is called so, or whose name begins with `NAME` and a new line."""

        def seen() -> Any:
            for one, _ in _all(window):
                if one.get_name().split("\n")[0] == name and role in (None, one.get_role_name()):
                    return one
            return None

        return self.until(seen)

    def labelled(self, window: Any, label: str) -> Any:
        """The field that a label belongs to."""

        def seen() -> Any:
            for one, _ in _all(window):
                for relation in one.get_relation_set():
                    if (
                        relation.get_relation_type() == Atspi.RelationType.LABELLED_BY
                        and relation.get_target(0).get_name() == label
                    ):
                        return one
            return None

        return self.until(seen)

    def press(self, window: Any, name: str, role: str | None = None) -> None:
        """Press a button. Where that asks a question, the bus is dumb until it is answered: then `click`."""
        self._ready(window, name, role).get_action_iface().do_action(0)

    def select(self, window: Any, name: str) -> None:
        """Select a line of a list."""
        self.named(window, name, "table cell").get_component_iface().grab_focus()

    def click(self, window: Any, name: str, role: str | None = None) -> None:
        """Click with the mouse in the middle of something."""
        one = self._ready(window, name, role)
        box = one.get_component_iface().get_extents(Atspi.CoordType.SCREEN)
        Atspi.generate_mouse_event(box.x + box.width // 2, box.y + box.height // 2, "b1c")

    def write(self, window: Any, label: str, text: str) -> None:
        """Fill in a field."""
        self.labelled(window, label).get_editable_text_iface().set_text_contents(text)

    def _ready(self, window: Any, name: str, role: str | None) -> Any:
        one = self.named(window, name, role)
        self.until(lambda: one.get_state_set().contains(Atspi.StateType.SENSITIVE))
        return one

    def _windows(self) -> Iterator[Any]:
        for program in _children(Atspi.get_desktop(0)):
            if program.get_name() == self._name:
                yield from (one for one in _children(program) if _shows(one))


def picture(window: Any, file: str) -> None:
    """What the screen shows where the window is, as PNG."""
    box = window.get_component_iface().get_extents(Atspi.CoordType.SCREEN)
    root = Gdk.get_default_root_window()
    Gdk.pixbuf_get_from_window(root, box.x, box.y, box.width, box.height).savev(file, "png", [], [])


def _tried(what: Callable[[], Any]) -> Any:
    try:
        return what()
    except GLib.Error:  # it went away while we looked, or is busy
        return None


def _children(one: Any) -> Iterator[Any]:
    for number in range(one.get_child_count()):
        child = one.get_child_at_index(number)
        if child is not None:
            yield child


def _shows(one: Any) -> bool:
    return bool(one.get_state_set().contains(Atspi.StateType.SHOWING))


def _all(one: Any, depth: int = 0) -> Iterator[tuple[Any, int]]:
    if _shows(one):
        yield one, depth
        for child in _children(one):
            yield from _all(child, depth + 1)
