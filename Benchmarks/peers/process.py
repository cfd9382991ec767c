"""A child process on given CPUs, with its log, whose end is certain."""

import os
import stat
import subprocess
import time


class Failure(Exception):
    """What a switch or the generator did that it should not have; the table shows the text."""


class Process:
    """Starts `command` on `cpus`. What it writes goes to the file `log`, its standard output to
    `answer` if there is one."""

    def __init__(self, command, cpus, log, environment=None, interactive=False, answer=None):
        self.name = os.path.basename(command[0])
        self.log = log
        with open(log, "ab") as errors, open(answer or log, "ab") as output:
            self._child = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, cpus)), *map(str, command)],
                stdin=subprocess.PIPE if interactive else subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, **(environment or {})},
            )

    @property
    def pid(self):
        return self._child.pid

    @property
    def alive(self):
        return self._child.poll() is None

    @property
    def status(self):
        return self._child.returncode

    def has_ended(self):
        """Whether it has. It is not reaped yet, so that `threads` still knows it."""
        return bool(os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG))

    def say(self, line):
        """A line to the standard input of an interactive process."""
        self._child.stdin.write(line.encode() + b"\n")
        self._child.stdin.flush()

    def check(self):
        """Fails if the process has ended by itself, with the last line it wrote."""
        if not self.alive:
            raise Failure(
                f"{self.name} ended with status {self._child.returncode}: {self.last_line()}"
            )

    def last_line(self):
        """The last line of its log, or the last that sounds like an error."""
        with open(self.log, errors="replace") as log:
            lines = [line.strip() for line in log if line.strip()]
        words = ("error", "crashed", "fatal")
        errors = [line for line in lines if any(word in line.lower() for word in words)]
        return (errors or lines or ["it wrote nothing"])[-1].removeprefix(f"{self.name}: ")

    def await_sockets(self, paths, seconds=15):
        """Returns when there is a socket at each path."""
        deadline = time.monotonic() + seconds
        while not all(
            os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode) for path in paths
        ):
            self.check()
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} made no socket in {seconds} s: {self.last_line()}")
            time.sleep(0.02)

    def end(self):
        """Asks the process to end, then makes it."""
        if self._child.stdin:
            self._child.stdin.close()
        if self.alive:
            self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def threads(self):
        """Of each thread, by its number: the seconds it ran, and those it could have run in when
        another had its CPU."""
        threads = {}
        for task in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{task}/schedstat") as schedstat:
                    running, waiting, _ = map(int, schedstat.read().split())
            except (OSError, ValueError):
                continue
            threads[task] = (running / 1e9, waiting / 1e9)
        return threads


def waited(before, after):
    """The seconds, between two readings of `Process.threads`, that the busiest thread waited."""
    busiest = max(
        before.keys() & after.keys(),
        key=lambda task: after[task][0] - before[task][0],
        default=None,
    )
    return after[busiest][1] - before[busiest][1] if busiest else 0.0


def ran(before, after):
    """The seconds, between two readings of `Process.threads`, that all threads ran together."""
    return sum(after[task][0] - before[task][0] for task in before.keys() & after.keys())


def output(command, seconds=30, environment=None):
    """The standard output of a command that must succeed."""
    done = subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode != 0:
        message = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise Failure(
            f"{os.path.basename(command[0])} ended with status {done.returncode}: {message}"
        )
    return done.stdout
