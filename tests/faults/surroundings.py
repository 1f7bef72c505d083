"""Surroundings for a daemon that a machine has only sometimes: proxies, name servers, namespaces, limits."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.support.processes import Daemon, environment, until

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(serve: Serve, address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[int]:
    """A server with a thread for each connection; its port."""
    over = threading.Event()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    def accept(listener: socket.socket) -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    with socket.create_server(address) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


def relay(one: socket.socket, other: socket.socket) -> None:
    """Bytes in both directions until one side ends."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join(5)


def read_head(connection: socket.socket) -> bytes:
    """A request without its body."""
    head = b""
    while b"\r\n\r\n" not in head and (data := connection.recv(4096)):
        head += data
    return head


class TunnelProxy:
    """A proxy that answers every CONNECT with 200, drops the first tunnels, and leads the others to one port."""

    def __init__(self, drops: int, port: int) -> None:
        self.drops = drops
        self.dropped = 0
        self.heads: list[bytes] = []
        self._port = port

    def serve(self, connection: socket.socket) -> None:
        head = read_head(connection)
        self.heads.append(head)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if self.dropped < self.drops:
            self.dropped += 1
            return
        with socket.create_connection(("127.0.0.1", self._port)) as upstream:
            relay(connection, upstream)


def tls_in_front_of(port: int, folder: Path) -> Serve:
    """TLS with `server.crt`, unwrapped for a port on loopback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")

    def serve(connection: socket.socket) -> None:
        # Clear bytes to a socket pair: sockets of TLS are not read and written in two threads.
        with (
            context.wrap_socket(connection, server_side=True) as secure,
            socket.create_connection(("127.0.0.1", port)) as plain,
        ):
            secure.settimeout(0.02)
            plain.settimeout(0.02)
            while _passed(secure, plain) and _passed(plain, secure):
                pass

    return serve


def _passed(source: socket.socket, target: socket.socket) -> bool:
    try:
        data = source.recv(65_536)
    except TimeoutError:
        return True
    if data:
        target.settimeout(5)
        target.sendall(data)
        target.settimeout(0.02)
    return bool(data)


@contextlib.contextmanager
def silent_name_server(folder: Path) -> Iterator[list[str]]:
    """The beginning of a command whose names are resolved by a server that drops every query; needs root."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as swallowing:
        swallowing.bind(("127.9.8.7", 53))
        conf = folder / "resolv.conf"
        conf.write_text("nameserver 127.9.8.7\noptions timeout:20 attempts:3\n")
        yield ["unshare", "--mount", "sh", "-c", f'mount --bind {conf} /etc/resolv.conf && exec "$@"', "sh"]


AS_PROCESS_ONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")

# The limit of processes is not enforced for root: another user, who may read what root may.
AS_LIMITED = (
    "setpriv",
    f"--reuid={100_000 + os.getpid()}",  # of this process of the tests alone: the limit is of a user
    "--clear-groups",
    "--inh-caps=+dac_override,+dac_read_search,-sys_resource,-sys_admin",
    "--ambient-caps=+dac_override,+dac_read_search",
    "--bounding-set=+dac_override,+dac_read_search,-sys_resource,-sys_admin",
)


class UserLimit:
    """RLIMIT_NPROC of a user of this test's own. `before` starts a process without the right to a further thread."""

    before = ("prlimit", "--nproc=1:4096", *AS_LIMITED)

    def allow(self, pid: int, number: int) -> None:
        """Let the user of a process that was started with `before` have this number of threads."""
        # By the same user: in many containers root may not do it for another one.
        subprocess.run([*AS_LIMITED, "prlimit", f"--pid={pid}", f"--nproc={number}:"], check=True)


class PidsCgroup:
    """The pids limit of a pod. `before` starts a process in the cgroup; at first it may have one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.before = ("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh")
        self.allow(0, 1)

    def allow(self, _pid: int, number: int) -> None:
        """Let all processes of the cgroup have this number of threads."""
        (self._folder / "pids.max").write_text(str(number))


@contextlib.contextmanager
def pids_cgroup() -> Iterator[PidsCgroup]:
    """A cgroup with a limit of processes and threads; it is removed when what was started in it has ended."""
    root = next(path for path in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if path.is_dir())
    folder = root / f"watcher-{os.getpid()}"
    folder.mkdir()
    try:
        yield PidsCgroup(folder)
    finally:
        until(lambda: not (folder / "cgroup.procs").read_text(), within=20, what="the cgroup is empty")
        folder.rmdir()


@contextlib.contextmanager
def hung_mount(folder: Path) -> Iterator[None]:
    """A mount over the folder whose file system never answers, as of a file server that is gone.

    Every access hangs until it is unmounted, and fails then.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"hung", bytes(folder), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            yield
        finally:
            libc.umount2(bytes(folder), 2)  # MNT_DETACH: also while something hangs in it
    finally:
        os.close(device)


def start(daemon: Daemon, before: Sequence[str], *more: str, ready: bool = True) -> int:
    """Start a daemon by a command that changes its surroundings; the process id of the daemon itself."""
    with daemon.stdout.open("ab") as out, daemon.stderr.open("ab") as err:
        daemon.process = subprocess.Popen(
            [*before, sys.executable, "-m", "watcher", "run", *daemon.arguments, *more],
            env=environment(daemon.env),
            cwd=daemon.folder,
            stdout=out,
            stderr=err,
        )
    if ready:
        until(lambda: daemon.is_ready() or daemon.has_ended(), within=40, what="the daemon is ready")
        assert not daemon.has_ended(), daemon.stderr.read_text()
    return innermost(daemon.process.pid)


def innermost(pid: int) -> int:
    """The process that commands such as unshare have started."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"watcher\0run" in command and not command.startswith((b"unshare", b"setpriv", b"sh\0")):
                return pid
        else:
            pid = int(children[0])
        time.sleep(0.002)
    raise AssertionError("no daemon was started")


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal."""
    caught = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:")
    ).split()[1]
    return bool(int(caught, 16) >> (number - 1) & 1)


def wait_for_handler(pid: int) -> None:
    """Until the process handles SIGTERM and SIGHUP."""
    end = time.monotonic() + 10
    while not (handles(pid, signal.SIGTERM) and handles(pid, signal.SIGHUP)):
        assert time.monotonic() < end, "no handler"
        time.sleep(0.0005)


def has_loaded_tls(pid: int) -> bool:
    """Whether the process has come as far as its larger imports."""
    return "libssl" in Path(f"/proc/{pid}/maps").read_text()


def threads_of(pid: int) -> int:
    """The number of its threads."""
    return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 -- a number
