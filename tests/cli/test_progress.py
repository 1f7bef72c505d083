import io
from collections.abc import Sequence

from rich.console import Console

from tests.server.serving import an_id, an_operation
from watcher.cli.progress import Bars, Lines
from watcher.core.channels import Stats
from watcher.core.model import SECOND, Operation, Status


def lines_of(*shown: tuple[int, Operation]) -> list[str]:
    """The lines written for one operation that is shown at these seconds."""
    written: list[str] = []
    tick = 0
    with Lines(lambda: tick * SECOND, written.append) as lines:
        for at, operation in shown:
            tick = at
            lines.show([operation])
    return [line.replace(an_id(1), "ID") for line in written]


def seen(status: Status, **stats: int) -> Operation:
    return an_operation(id=an_id(1), status=status, stats=Stats(**stats), asked_tick=1)


def test_a_new_status_is_printed_at_once_and_stats_at_intervals():
    assert lines_of(
        (0, an_operation(id=an_id(1))),
        (1, seen(Status.PROCESSING, total=9, sent=1)),
        (2, seen(Status.PROCESSING, total=9, sent=2)),
        (12, seen(Status.PROCESSING, total=9, sent=3)),
        (30, seen(Status.PROCESSING, total=9, sent=3)),
        (31, seen(Status.COMPLETED, total=9, sent=8, failed=1)),
    ) == [
        "    1 s  ID  PROCESSING  1 of 9 sent",
        "   12 s  ID  PROCESSING  3 of 9 sent",
        "   31 s  ID  COMPLETED   8 of 9 sent, 1 failed",
    ]


def test_what_the_first_poll_returned_is_printed():
    assert lines_of((0, seen(Status.PROCESSING))) == ["    0 s  ID  PROCESSING  no stats yet"]


def bars_of(*shown: Sequence[Operation], width: int = 90) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with Bars(console) as bars:
        for operations in shown:
            bars.show(operations)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_operation_has_a_bar():
    output = bars_of([an_operation(id=an_id(1))], [seen(Status.COMPLETED, total=9, sent=8, failed=1)])
    last = output.split("\x1b[2K")[-1]
    assert last.startswith("…0000000001 ━━━")
    assert "COMPLETED 8 of 9 sent, 1 failed" in last


def test_many_operations_share_one_bar():
    operations = [an_operation(id=an_id(number), stats=Stats(total=10, sent=number)) for number in range(10)]
    output = bars_of([*operations, seen(Status.COMPLETED, total=10, sent=10)])
    assert "11 operations" in output
    assert "1 ended 55 of 110 sent" in output
