"""The child process that runs one program with its tests; started by `programs.py`, imports nothing of the library.

stdin: {"program", "token", "seconds", "memory_mb"} --> no network, limits, refusals --> exec --> stdout: a JSON object

Two walls, and neither is a jail: the kernel takes the network away (a namespace of its own) and bounds time, memory and
files; an audit hook, which cannot be taken off, refuses what reaches beyond the process.
"""

import ctypes
import json
import os
import resource
import sys

NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000
REFUSED = (
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink", "os.chmod", "os.chown"),
    *(
        "os.system",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.kill",
        "os.killpg",
        "os.putenv",
    ),
    *("subprocess.Popen", "resource.setrlimit", "resource.prlimit", "signal.pthread_kill", "pty.spawn", "fcntl.fcntl"),
)
REFUSED_KINDS = ("socket.", "ctypes.", "shutil.", "ftplib.", "http.", "smtplib.", "urllib.", "tempfile.", "mmap.")
MODULES = ("ctypes", "_ctypes", "cffi", "_posixsubprocess", "_multiprocessing")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> None:
    task = json.loads(sys.stdin.buffer.read())
    result, nowhere = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    reason = cut_off()
    if reason:
        say(result, {"unprotected": reason})
        return
    limit(task["seconds"], task["memory_mb"])
    refused: list[str] = []
    forbid(refused)
    try:
        exec(compile(task["program"], "<program>", "exec"), {"__name__": "__main__"})
    except BaseException as error:
        say(result, {"failed": f"{type(error).__name__}: {error}"[:300], "refused": refused[:1]})
    else:
        say(result, {"passed": task["token"]})


def cut_off() -> str:
    """Leaves the network; why it could not, or ""."""
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (NEW_USER | NEW_NETWORK, NEW_NETWORK):
        if libc.unshare(flags) == 0:
            return ""
    return os.strerror(ctypes.get_errno())


def limit(seconds: int, memory_mb: int) -> None:
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory_mb << 20),
        (resource.RLIMIT_FSIZE, 1 << 16),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most + (what == resource.RLIMIT_CPU)))


def forbid(refused: list[str]) -> None:
    """From here on, what reaches beyond the process raises PermissionError, and is noted."""

    def hook(event: str, arguments: tuple) -> None:
        wrong = event in REFUSED or event.startswith(REFUSED_KINDS) or (event == "import" and arguments[0] in MODULES)
        if event == "open":
            _, mode, flags = arguments
            wrong = any(sign in (mode or "") for sign in "wax+") or bool((flags or 0) & WRITING)
        if wrong:
            refused.append(event)
            raise PermissionError(f"{event} is not for programs that are judged")

    for name in MODULES:
        sys.modules.pop(name, None)
    sys.addaudithook(hook)


def say(result: int, what: dict) -> None:
    os.write(result, json.dumps(what).encode())


if __name__ == "__main__":
    main()
