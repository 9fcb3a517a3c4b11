"""Progress on stderr: a bar with time left on a terminal, one plain line per finished job elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robustgeom.harness.options import Event

__all__ = ["Display", "bars"]


def bars(console: Console) -> Progress:
    """Return bars with time gone and time left, which show on a terminal only."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


class Display:
    """A context manager that is called with each event; `plain` writes lines even on a terminal."""

    def __init__(self, *, plain: bool = False) -> None:
        self._console = Console(stderr=True, force_terminal=False if plain else None)
        self._bars = bars(self._console)
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if not self._console.is_terminal:
            if event.line is not None:
                self._console.print(f"{event.model}: {event.line}", highlight=False, soft_wrap=True)
            return
        if event.model not in self._tasks:
            self._tasks[event.model] = self._bars.add_task(event.model, total=event.total)
        text = f"{event.model}: {event.job}" if event.done < event.total else event.model
        self._bars.update(self._tasks[event.model], completed=event.done, description=text[:44])  # type: ignore[arg-type]
