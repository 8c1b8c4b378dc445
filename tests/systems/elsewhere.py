"""Make this interpreter look like one of another system, for what is imported from here on; a test runs it in a child process.

The standard library and other packages are imported first, since they choose by system too; what this project uses of them that
Windows or macOS do not have is taken away afterwards.
"""

import asyncio
import ctypes
import importlib
import multiprocessing
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

LOADED = (asyncio, multiprocessing, shutil, subprocess, tempfile)
PACKAGES = (
    "numpy",
    "onnxruntime",
    "pydantic",
    "orjson",
    "msgspec",
    "pyarrow.parquet",
    "pyarrow.csv",
    "fastapi",
    "uvicorn",
    "httpx",
)
TRAINING = ("torch", "onnx", "sklearn.linear_model", "scipy.stats", "safetensors.torch")
LINUX_ONLY = {
    os: ("sched_getaffinity", "sched_setaffinity", "memfd_create", "pidfd_open", "eventfd"),
    select: ("epoll",),
    socket: ("SOCK_SEQPACKET", "SO_REUSEPORT"),
}
POSIX_ONLY = {
    os: (
        "getuid", "geteuid", "getgid", "getegid", "fork", "register_at_fork", "waitpid", "wait4", "mkfifo", "killpg", "setsid",
        "fchmod", "fchown", "nice", "getpgid", "pread", "writev", "sendfile", "statvfs", "link", "posix_fallocate", "uname",
        "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC", "WNOHANG",
    ),
    signal: (
        "SIGHUP", "SIGKILL", "SIGALRM", "SIGCHLD", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGPIPE", "setitimer", "alarm",
        "pthread_sigmask", "siginterrupt",
    ),
    socket: ("AF_UNIX", "send_fds", "recv_fds"),
}  # fmt: skip
POSIX_MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "uvloop")


def become(system: str, *, training: bool = False) -> None:
    """Look like `win32` or `darwin`."""
    for name in (*PACKAGES, *(TRAINING if training else ())):
        importlib.import_module(name)
    sys.platform = system
    _remove(LINUX_ONLY)
    if system == "win32":
        _remove(POSIX_ONLY)
        os.supports_dir_fd = set()
        shutil._use_fd_functions = False  # type: ignore[attr-defined]  # decided when it was imported
        for name in POSIX_MODULES:
            sys.modules[name] = None  # type: ignore[assignment]  # importing it fails
        ctypes.CDLL = _no_library  # type: ignore[assignment,misc]
        os.open = _open_no_folder(os.open)  # type: ignore[assignment]


def _remove(attributes: dict[object, tuple[str, ...]]) -> None:
    for module, names in attributes.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)


def _no_library(name: object) -> object:
    raise TypeError(f"Windows has no library {name!r}")


def _open_no_folder(real: object) -> object:
    def opened(path: object, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        if Path(path).is_dir():  # type: ignore[arg-type]
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, mode)  # type: ignore[operator,no-any-return]

    return opened
