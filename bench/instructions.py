"""Counts the instructions of one thread between two `sched_yield`s, one step after the other.

    python3 bench/instructions.py target/dist/mayfly-bench loop hello --times 200 --marked

The program says `ready`, waits for a line, and yields before and after what is to be counted; whatever its other threads
do meanwhile stands still. Needs x86-64 and the right to trace a child; takes 30 us an instruction on a virtual machine.
"""

import ctypes
import os
import signal
import subprocess
import sys

PTRACE_PEEKUSER, PTRACE_CONT, PTRACE_SINGLESTEP, PTRACE_SYSCALL = 3, 7, 9, 24
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
ORIG_RAX, RIP = 15 * 8, 16 * 8
SCHED_YIELD = 24
# Each byte of a `rep movsb` is a step, and glibc copies and wipes larger blocks with it on some processors: without it,
# the count is of instructions and the same on all of them.
NO_REP = "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000"

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, thread, address=0, data=0):
    result = libc.ptrace(request, thread, address, data)
    if result == -1 and request != PTRACE_PEEKUSER:
        raise OSError(ctypes.get_errno(), "ptrace")
    return result


def stopped(thread):
    """Waits for the thread's next stop; gives the signal that is to be handed on."""
    _, status = os.waitpid(thread, 0x40000000)
    if not os.WIFSTOPPED(status):
        sys.exit(f"the program ended meanwhile: {status:#x}")
    number = os.WSTOPSIG(status) & 0x7F
    return 0 if number in (signal.SIGTRAP, signal.SIGSTOP) else number


def until_yield(thread):
    """Runs on until the thread enters `sched_yield`, and leaves it at the way out."""
    give = 0
    while True:
        ptrace(PTRACE_SYSCALL, thread, 0, give)
        give = stopped(thread)
        if ptrace(PTRACE_PEEKUSER, thread, ORIG_RAX) == SCHED_YIELD:
            ptrace(PTRACE_SYSCALL, thread, 0, 0)
            stopped(thread)
            return


def steps(thread):
    """Instructions until the next one."""
    count, give = 0, 0
    step, wait, peek = libc.ptrace, os.waitpid, libc.ptrace
    while True:
        step(PTRACE_SINGLESTEP, thread, 0, give)
        _, status = wait(thread, 0x40000000)
        count += 1
        number = status >> 8 & 0x7F
        give = 0 if number == signal.SIGTRAP else number
        # Behind the instruction `syscall` this is the number of the call, else -1 or what it was.
        if peek(PTRACE_PEEKUSER, thread, ORIG_RAX, 0) == SCHED_YIELD:
            return count


def main():
    env = {**os.environ, "GLIBC_TUNABLES": NO_REP}
    program = subprocess.Popen(sys.argv[1:], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if program.stdout.readline() != "ready\n":
        sys.exit("the program does not say that it is ready")
    threads = [int(thread) for thread in os.listdir(f"/proc/{program.pid}/task")]
    for thread in threads:
        ptrace(PTRACE_SEIZE, thread)
        ptrace(PTRACE_INTERRUPT, thread)
        stopped(thread)
    program.stdin.write("\n")
    program.stdin.flush()
    until_yield(program.pid)
    print(steps(program.pid))
    program.kill()


if __name__ == "__main__":
    main()
