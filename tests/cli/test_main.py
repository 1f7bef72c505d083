import os
import subprocess
import sys

import pytest

from tests.cli.running import CREDENTIALS, ROOT, Command, environment
from watcher import __version__
from watcher.__main__ import READER_WENT_AWAY
from watcher.cli import check
from watcher.cli.exits import Exit
from watcher.cli.parser import parser


def test_version_and_help_are_good(watcher: Command):
    assert watcher("--version").out == f"watcher {__version__}\n"
    helped = watcher("--help")
    assert (helped.code, helped.err) == (0, "")
    assert "healthcheck" in helped.out


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("nothing",),
        ("run", "--unknown"),
        ("wait",),
        ("wait", "x", "--timeout", "10"),
        ("wait", "x", "--timeout", "-1s"),
        ("wait", "x", "--max-failed", "-1"),
        ("wait", "x", "--max-failed", "1.5"),
        ("list", "--limit", "0"),
        ("track", "x", "--label", "key"),
        ("track", "x", "--label", "=value"),
        ("simulate", "--listen", "nowhere"),
        ("simulate", "--listen", "unix:/tmp/socket"),
        ("demo", "--operations", "0"),
        ("list", "--lim", "5"),
        ("track", "x", "--label", "a=\udcff"),
        ("list", "--account", "\udcff"),
        ("healthcheck", "--url", "http://\udcff:1"),
    ],
)
def test_a_bad_command_line_is_2_and_says_why(watcher: Command, argv: tuple[str, ...]):
    ended = watcher(*argv)
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert "error: " in ended.err


def test_an_error_of_an_option_says_what_is_expected(watcher: Command):
    assert "such as 500ms, 30s, 15m, 24h or 7d" in watcher("wait", "x", "--timeout", "10").err
    assert 'expected a whole number from 1, got "many"' in watcher("list", "--limit", "many").err


def test_an_unexpected_exception_is_70_with_its_traceback(watcher: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(check, "load_in_time", lambda *_: 1 / 0)
    ended = watcher("check")
    assert ended.code == 70
    assert "ZeroDivisionError" in ended.err


def test_every_command_names_a_module_and_helps(watcher: Command):
    for command in commands():
        ended = watcher(command, "--help")
        assert (ended.code, ended.err) == (0, "")
        assert f"usage: watcher {command}" in ended.out


@pytest.mark.parametrize("argv", [["healthcheck"], ["--version"], ["--help"], ["nothing"]])
def test_the_quick_commands_import_the_standard_library_only(argv: list[str]):
    script = (
        "import sys; from watcher.__main__ import main; main(sys.argv[1:])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
        "print(*sorted(name for name in sys.modules if name.startswith('watcher')), file=sys.stderr)\n"
    )
    # -I: neither the environment nor site packages come along by chance; -S: they could not if they wanted to.
    started = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}", *argv]
    ended = subprocess.run(started, capture_output=True, text=True, check=True)
    everything, ours = ended.stderr.splitlines()[-2:]
    foreign = {name for name in everything.split() if name not in sys.stdlib_module_names}
    assert foreign <= {"watcher", "__main__"}
    assert {"asyncio", "ssl", "typing", "dataclasses", "logging", "email"}.isdisjoint(everything.split())
    assert set(ours.split()) <= {
        "watcher",
        "watcher.__main__",
        "watcher.cli",
        "watcher.cli.parser",
        "watcher.cli.exits",
        "watcher.cli.output",
        "watcher.core",
        "watcher.core.printable",
        "watcher.cli.healthcheck",
        "watcher.cli.address",
        "watcher.signals",
        "watcher.deadline",
    }


def test_a_reader_that_goes_away_ends_it_without_a_word():
    theirs, ours = os.pipe()
    os.close(theirs)
    with subprocess.Popen(
        [sys.executable, "-m", "watcher", "check"], env=environment(**CREDENTIALS), stdout=ours, stderr=subprocess.PIPE
    ) as running:
        os.close(ours)
        _, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (READER_WENT_AWAY, b"")


def test_a_locale_without_all_characters_is_no_error():
    ended = subprocess.run(
        [sys.executable, "-m", "watcher", "show", "“hm”"],
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == Exit.USAGE
    assert "is not an operation id" in ended.stderr


def commands() -> list[str]:
    (choices,) = [action.choices for action in parser()._actions if action.dest == "command"]
    return list(choices or ())
