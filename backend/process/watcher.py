"""Becomes a child command, and leaves behind a watcher that ends it when its parent is gone. ``child.py`` runs it.

Started as ``python -I -S watcher.py LIFE STATUS GRACE COMMAND...``, this process forks the watcher and then *becomes*
the command, so the command keeps its pid, its exit status and its place as a direct child of the starter, and signals
reach it without a relay. The watcher sleeps on ``LIFE``, the reading end of a pipe whose only writing end the starter
holds; the pipe's end means that the starter is dead, however it died (or that it has seen the command's end).

The kernel's parent-death signal is not used: it fires when the *thread* that forked ends, and only Linux has it.
This module must import nothing heavy (20 ms per start) and nothing of ours: it is run by its path.
"""

import os
import resource
import select
import signal
import sys
import time

_OPEN_FILES = 65_536
_CHECK_S = 1
_POLL_S = 0.02


def _raise_file_limit() -> None:
    """Let a database open as many files as the machine allows; macOS starts with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return  # the default serves small data


def _alive(leader: int) -> bool:
    # The watcher is the command's own child, so a changed parent means its end: no pid can be taken for another's.
    return os.getppid() == leader


def _watch(leader: int, life: int, grace_s: int) -> None:
    """Sleep until the starter or the command is gone, then end the command and whatever is left of its session."""
    os.setsid()  # neither Ctrl-C of the terminal nor the sweep of the command's group may reach the watcher
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.chdir("/")
    while _alive(leader) and not select.select([life], [], [], _CHECK_S)[0]:
        pass
    deadline = time.monotonic() + grace_s
    if _alive(leader):
        os.kill(leader, signal.SIGTERM)
    while _alive(leader) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    try:
        os.killpg(leader, signal.SIGKILL)
    except OSError:
        return  # nothing was left


def _become(command: list[str], status: int) -> int:
    """Replace this process by ``command``; on failure report the error number on ``status``."""
    os.set_inheritable(status, False)  # noqa: FBT003 - a successful exec closes it, which tells the starter so
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores these, and an ignored signal outlives exec
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(status, str(error.errno).encode())
    return 127


def main(life: int, status: int, grace_s: int, command: list[str]) -> int:
    """Fork the watcher, then become ``command``; returns only when the command cannot be run."""
    _raise_file_limit()
    leader = os.getpid()
    if os.fork() == 0:
        try:
            os.close(status)
            _watch(leader, life, grace_s)
        finally:
            os._exit(0)
    os.close(life)
    return _become(command, status)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
