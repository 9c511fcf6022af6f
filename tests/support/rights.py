"""What the kernel refuses: rights on files that bind the tests too, also where root runs them, and
disks without space."""

import ctypes
import json
import os
import resource
import traceback


def without_rights(ask):
    """What `ask` returns (as JSON) in a process that no right lets write where files forbid it."""
    return _forked(_drop_capabilities, ask)


def without_space(ask):
    """What `ask` returns (as JSON) in a process that can create files, and write nothing to them.

    The same holds for the processes that it starts (RLIMIT_FSIZE, setrlimit(2)).
    """
    return _forked(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)), ask)


def _forked(prepare, ask):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            prepare()
            said = {"answer": ask()}
        except BaseException:
            said = {"error": traceback.format_exc()}
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        found = json.loads(pipe.read())
    os.waitpid(child, 0)
    assert "error" not in found, found["error"]
    return found["answer"]


def _drop_capabilities() -> None:
    """Takes from root what goes beyond a file's own permissions (capset(2), version 3), for the
    processes that it starts too (SECBIT_NOROOT, capabilities(7))."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.prctl(28, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
    assert libc.capset(header, none) == 0, os.strerror(ctypes.get_errno())


def read_only(folder) -> None:
    """Takes the right to write from a folder and everything in it."""
    for place, _, files in os.walk(folder):
        for name in files:
            os.chmod(os.path.join(place, name), 0o444)
        os.chmod(place, 0o555)
