"""Runs a command in the foreground of the terminal, in a process group of its own: `foreground.py FLAG COMMAND…`.

For `make demo`. Ctrl-C reaches only the command, so that make does not report a failure and ends as the command ends. A
signal to make or to this process is passed on to the command once. The command is also stopped when FLAG is removed
(make deletes its current target when it is interrupted), when make dies, and when the terminal is closed.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

TURN_SECONDS = 0.05
# make passes SIGTERM on to its children, so a SIGTERM to the whole group arrives here twice.
REPEAT_SECONDS = 1.0


def main() -> int:
    """Return the exit status of the command, 128 + n if signal n ended it."""
    flag, *command = sys.argv[1:]
    foreground = Foreground(Path(flag), command)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: foreground.stop(received))
    try:
        return foreground.wait()
    finally:
        Path(flag).unlink(missing_ok=True)


class Foreground:
    """The command as a process, which is given the foreground of the terminal."""

    def __init__(self, flag: Path, command: list[str]) -> None:
        self.flag = flag
        self.make_pid = os.getppid()
        self.passed_on_at = -REPEAT_SECONDS
        self.terminal = terminal()
        self.flag.touch()
        self.pid = os.fork()
        if self.pid == 0:
            become(command)
        self.lend_terminal(self.pid)
        # From here on this process is in the background, where taking the terminal back would stop it.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)

    def wait(self) -> int:
        """Wait for the end of the command, and return its exit status."""
        is_abandoned = False
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                self.stay_stopped()
            elif pid:
                self.lend_terminal(os.getpgrp())
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            elif not is_abandoned and self.is_abandoned():
                is_abandoned = True
                self.stop(signal.SIGTERM)
            time.sleep(TURN_SECONDS)

    def stop(self, received: int) -> None:
        """Pass a signal on, but not its repetition."""
        if time.monotonic() - self.passed_on_at < REPEAT_SECONDS:
            return
        self.passed_on_at = time.monotonic()
        os.kill(self.pid, signal.SIGINT if received == signal.SIGINT else signal.SIGTERM)

    def is_abandoned(self) -> bool:
        """Whether make was interrupted or died, or the terminal was closed."""
        if os.getppid() != self.make_pid or not self.flag.exists():
            return True
        try:
            return self.terminal is not None and os.tcgetpgrp(self.terminal) < 0
        except OSError:
            return True

    def stay_stopped(self) -> None:
        """Ctrl-Z: stop with the command, and continue with it."""
        self.lend_terminal(os.getpgrp())
        os.kill(0, signal.SIGTSTP)
        if self.terminal is not None and os.tcgetpgrp(self.terminal) == os.getpgrp():
            self.lend_terminal(self.pid)
        os.killpg(self.pid, signal.SIGCONT)

    def lend_terminal(self, group: int) -> None:
        """Make the process group the one that Ctrl-C and Ctrl-Z reach."""
        if self.terminal is not None:
            # The terminal may have been closed meanwhile.
            with contextlib.suppress(OSError):
                os.tcsetpgrp(self.terminal, group)


def terminal() -> int | None:
    """Return the terminal, or None if there is none or this process is not in its foreground."""
    try:
        found = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    return found if os.tcgetpgrp(found) == os.getpgrp() else None


def become(command: list[str]) -> None:
    """Replace the forked child by the command."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 -- running the given command is what this is for
    except OSError as failure:
        print(f"{command[0]}: {failure.strerror}", file=sys.stderr)
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main())
