"""docs/commands.md says all that the command line has, and nothing that it has not."""

import re

from tests.cli.running import ROOT
from tests.cli.test_main import commands
from watcher.cli.exits import Exit
from watcher.cli.parser import parser

MANUAL = (ROOT / "docs" / "commands.md").read_text()
USAGES = {name: usage for usage, name in re.findall(r"^```sh\n(watcher ([a-z]+)[^\n]*)\n```$", MANUAL, re.MULTILINE)}


def options_of(command: str) -> set[str]:
    (choices,) = [action.choices for action in parser()._actions if action.dest == "command"]
    assert isinstance(choices, dict)
    return {name for name in choices[command]._option_string_actions if name not in {"-h", "--help"}}


def test_every_command_has_a_section():
    sections = re.findall(r"^## (\w+)$", MANUAL, re.MULTILINE)
    assert sections == commands()


def test_every_usage_has_the_options_of_its_command():
    assert {name: set(re.findall(r"--[a-z-]+", usage)) for name, usage in USAGES.items()} == {
        name: options_of(name) for name in commands()
    }


def test_every_exit_code_says_what_to_do():
    rows = re.findall(r"^\| (\d+) \| .+ \| .+ \|$", MANUAL, re.MULTILINE)
    assert [int(code) for code in rows] == [code.value for code in Exit]


def test_help_names_every_exit_code():
    assert [int(code) for code in re.findall(r"\b(\d+) (?:[a-z])", parser().epilog or "")] == [
        code.value for code in Exit
    ]
