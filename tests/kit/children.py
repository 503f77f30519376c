"""Run a function in a forked child, which may give its rights or system calls away."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import traceback
from collections.abc import Callable
from typing import Any

NOBODY = 65534

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_RET_ERRNO, _RET_ALLOW = 0x00050000, 0x7FFF0000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06


def in_child(function: Callable[[], Any]) -> Any:
    """Return what the function returns there, by way of JSON."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = {"value": function()}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        with os.fdopen(write_fd, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert text, f"the child ended with status {status}"
    answer = json.loads(text)
    assert "error" not in answer, answer["error"]
    return answer["value"]


def become_nobody() -> None:
    """Give all rights of this process away, for good."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def hide_proc() -> None:
    """Put an empty directory over /proc for this process alone, for good; it takes root.

    Source: unshare(2), mount(2); the program of that name does not work without /proc.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNS) == 0
    assert libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
    assert libc.mount(b"none", b"/proc", b"tmpfs", 0, None) == 0


def forbid_call(number: int, error: int) -> None:
    """Make a system call fail with this errno in this process, for good.

    Source: seccomp(2); struct sock_filter is code, two jumps and a constant.
    """
    instructions = (
        (_LOAD, 0, 0, 0),  # the number of the call
        (_JUMP_IF_EQUAL, 0, 1, number),
        (_RETURN, 0, 0, _RET_ERRNO | error),
        (_RETURN, 0, 0, _RET_ALLOW),
    )
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("<HxxxxxxQ", len(instructions), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0) == 0
