"""Child processes of the demos: started together, never left behind."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1

# Reads ids of process groups, one per line, and kills those groups once its input ends: when the demo is gone.
GUARD = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    group = int(line)
    groups.add(group) if group > 0 else groups.discard(-group)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


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
    """Starts children with their output in files, and ends them all, with the children they have."""

    def __init__(self, folder):
        self.folder = folder
        self.running = {}
        self.guard = subprocess.Popen(
            [sys.executable, "-c", GUARD], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def start(self, name, command, env=None):
        """Starts `command`; what it prints goes to `<folder>/<name>.log`."""
        log = open(os.path.join(self.folder, name + ".log"), "ab")
        with log:
            self.running[name] = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent,
                start_new_session=True,
            )
        self._tell_guard(self.running[name].pid)
        return self.running[name]

    def run(self, name, command, env, on_line):
        """Runs `command` to its end, with each line of its output given to `on_line`; returns its status and lines."""
        child = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", preexec_fn=_die_with_parent, start_new_session=True,
        )
        self.running[name] = child
        self._tell_guard(child.pid)
        lines = []
        for line in child.stdout:
            lines.append(line.rstrip())
            on_line(lines[-1])
        child.wait()
        del self.running[name]
        self._tell_guard(-child.pid)
        return child.returncode, lines

    def kill(self, name):
        """Ends one child as a crash would."""
        child = self.running.pop(name)
        self._signal(child, signal.SIGKILL)
        child.wait()
        self._tell_guard(-child.pid)

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

    def log(self, name):
        """All that a child printed."""
        with open(os.path.join(self.folder, name + ".log"), errors="replace") as log:
            return log.read()

    def tail(self, name):
        """The last lines that a child printed."""
        return "\n".join(self.log(name).splitlines()[-15:])

    def stop(self):
        """Ends every child."""
        for child in self.running.values():
            child.terminate()
        deadline = time.monotonic() + 3
        for child in self.running.values():
            try:
                child.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            # Whoever is left of its group, too: some servers leave workers behind.
            self._signal(child, signal.SIGKILL)
            child.wait()
        self.running.clear()
        if self.guard.poll() is None:
            self.guard.stdin.close()
            self.guard.wait()

    def _signal(self, child, number):
        try:
            os.killpg(child.pid, number)
        except OSError:
            pass

    def _tell_guard(self, group):
        self.guard.stdin.write(f"{group}\n".encode())
