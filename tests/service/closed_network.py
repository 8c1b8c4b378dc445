"""Run a Python module in a process that dies at its first attempt to reach out over the network.

    python tests/service/closed_network.py MODULE ARGUMENTS…

A seccomp filter answers connect(2), and sendto(2) with an address, by killing the process (signal SIGSYS), native code
and all its threads included; listening, accepting and answering stay allowed. Needs Linux, not root.
"""

import ctypes
import platform
import runpy
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
KILL_PROCESS = 0x80000000
ALLOW = 0x7FFF0000
LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K
# Offsets into struct seccomp_data: the call's number, and the fifth argument (sendto's address) in two halves.
NUMBER, ADDRESS_LOW, ADDRESS_HIGH = 0, 48, 52
CONNECT, SENDTO = {"x86_64": (42, 44), "aarch64": (203, 206)}[platform.machine()]


def close_network() -> None:
    """Install the filter on this process and all it starts; raises OSError where the kernel refuses it."""
    # Each line: opcode, jump if true, jump if false, operand; jumps count the lines to leave out.
    lines = [
        (LOAD_WORD, 0, 0, NUMBER),
        (JUMP_IF_EQUAL, 6, 0, CONNECT),
        (JUMP_IF_EQUAL, 0, 4, SENDTO),
        (LOAD_WORD, 0, 0, ADDRESS_LOW),
        (JUMP_IF_EQUAL, 0, 3, 0),
        (LOAD_WORD, 0, 0, ADDRESS_HIGH),
        (JUMP_IF_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, KILL_PROCESS),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong]
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, None, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel refused the seccomp filter")


if __name__ == "__main__":
    close_network()
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
