"""Child processes of the demo: started together, never left behind."""

import ctypes
import os
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1


class DemoError(Exception):
    """Something that should work did not; the message says what."""


def free_ports(n):
    """Returns n free ports on loopback: bound together, so that they differ, then let go."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _die_with_parent():
    # Also when this script is killed hard. Linux only; elsewhere `Processes.stop` has to do.
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


class Processes:
    """Starts children with their output in files, and ends them all."""

    def __init__(self, folder):
        self.folder = folder
        self.running = {}

    def start(self, name, command):
        """Starts `command`; what it prints goes to `<folder>/<name>.log`."""
        log = open(os.path.join(self.folder, name + ".log"), "ab")
        with log:
            self.running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
            )

    def kill(self, name):
        """Ends one child as a crash would."""
        child = self.running.pop(name)
        child.kill()
        child.wait()

    def wait_for(self, what, condition, seconds=20):
        """Waits until `condition()` is true; fails early if a child ended."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass
            for name, child in self.running.items():
                if child.poll() is not None:
                    raise DemoError(f"{name} ended with status {child.returncode}:\n{self.tail(name)}")
            if time.monotonic() > deadline:
                raise DemoError(f"waited {seconds} s for {what}")
            time.sleep(0.02)

    def tail(self, name):
        """The last lines that a child printed."""
        with open(os.path.join(self.folder, name + ".log"), errors="replace") as log:
            return "".join(log.readlines()[-15:])

    def stop(self):
        """Ends every child."""
        for child in self.running.values():
            child.terminate()
        deadline = time.monotonic() + 3
        for child in self.running.values():
            try:
                child.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.running.clear()
