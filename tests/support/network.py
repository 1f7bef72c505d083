"""A network of its own for a process: loopback, and nothing else.

Pods on this machine's network have the same ports every time. Apart, several may run side by side, whatever else runs
here. Needs Linux and root.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

NEW_NETWORK = 0x40000000  # CLONE_NEWNET of sched.h
SET_FLAGS, UP = 0x8914, 0x1  # SIOCSIFFLAGS and IFF_UP of linux/if.h


def move_apart() -> None:
    """Give this thread, and all that it starts from now on, a network of its own."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK):
        number = ctypes.get_errno()
        raise OSError(number, f"no network of its own: {os.strerror(number)}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))
