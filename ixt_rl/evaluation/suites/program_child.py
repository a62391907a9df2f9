"""The child process that runs one program with its tests; started by `programs.py`, imports nothing of the library.

stdin: {"program", "token", "seconds", "memory_mb", "file_bytes"} --> no network, limits, refusals --> exec
--> stdout: a JSON object

With "streams" (two open files) the program's stdin is the first and its stdout the second; with "call" its function is
called, and what it returns is said.

Two walls, and neither is a jail: the kernel takes the network away (a namespace of its own) and bounds time, memory and
files; an audit hook, which cannot be taken off, refuses what reaches beyond the process.
"""

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import resource
import sys
import threading

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
USUAL = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing"),
)
STACK = 100 << 20
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> None:
    task = json.loads(sys.stdin.buffer.read())
    result, nowhere = os.dup(1), os.open(os.devnull, os.O_RDWR)
    streams = task.get("streams", [])
    for stream, given in enumerate([*streams, *[nowhere] * (3 - len(streams))]):
        os.dup2(given, stream)
    reason = cut_off()
    if reason:
        say(result, {"unprotected": reason})
        return
    names = {"__name__": "__main__"}
    if streams:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if streams or "call" in task:
        names = {**usual_names(), **names}
        sys.setrecursionlimit(50_000)
        _, most = resource.getrlimit(resource.RLIMIT_STACK)
        stack = STACK if most == resource.RLIM_INFINITY else min(STACK, most)
        resource.setrlimit(resource.RLIMIT_STACK, (stack, most))
    if "numpy" in task["program"]:  # its import sets variables of the environment, which is refused later
        with contextlib.suppress(ImportError):
            importlib.import_module("numpy")
    limit(task["seconds"], task["memory_mb"], task["file_bytes"])
    refused: list[str] = []
    forbid(refused)
    said = {"passed": task["token"], "refused": refused}
    try:
        try:
            exec(compile(task["program"], "<program>", "exec"), names)
        except SystemExit:
            if not streams:
                raise
        if streams:
            finish()
        if "call" in task:
            said |= called(task["program"], names, **task["call"])
    except BaseException as error:
        say(result, {"failed": f"{type(error).__name__}: {error}"[:300], "refused": refused[:1]})
    else:
        say(result, said)
    if streams or "call" in task:
        os._exit(0)  # threads are not waited for, and nothing is written after this


def usual_names() -> dict:
    """What LiveCodeBench imports before a solution, in its order."""
    names: dict = {}
    for name in USUAL:
        exec(f"from {name} import *", names)
    names |= {name: importlib.import_module(name) for name in USUAL if name not in ("builtins", "typing")}
    return names


def called(program: str, names: dict, entry: str, arguments: list) -> dict:
    """What the function, or the method of `Solution`, returns; a tuple is a list."""
    if "class Solution" in program:
        function = getattr(names["Solution"](), entry)
    elif entry in names:
        function = names[entry]
    else:
        raise NameError(f"no function {entry}")
    value = function(*arguments)
    value = list(value) if isinstance(value, tuple) else value
    odd = foreign(value)
    return (
        {"odd": f"gives a {odd}"} if odd else {"value": json.loads(json.dumps(value, default=lambda one: one.item()))}
    )


def foreign(value: object) -> str:
    """The type of something in it that equals no JSON value, or "": JSON itself would write a tuple as a list."""
    if isinstance(value, list):
        return next(filter(None, map(foreign, value)), "")
    if isinstance(value, dict):
        keys = (type(key).__name__ for key in value if not isinstance(key, str))
        return next(keys, "") or foreign([*value.values()])
    plain = value is None or isinstance(value, (str, int, float)) or getattr(value, "shape", None) == ()
    return "" if plain else type(value).__name__


def finish() -> None:
    """What an interpreter does at its end: waits for threads, calls what was registered, writes what is buffered."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()


def cut_off() -> str:
    """Leaves the network; why it could not, or ""."""
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (NEW_USER | NEW_NETWORK, NEW_NETWORK):
        if libc.unshare(flags) == 0:
            return ""
    return os.strerror(ctypes.get_errno())


def limit(seconds: int, memory_mb: int, file_bytes: int) -> None:
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory_mb << 20),
        (resource.RLIMIT_FSIZE, file_bytes),
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
