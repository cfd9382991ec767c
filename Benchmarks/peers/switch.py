"""What the switches compared have in common: a process with sockets, on one CPU of its own."""

import os
from dataclasses import dataclass

from process import output


@dataclass(frozen=True)
class CPUs:
    # The one thread that moves frames has this CPU to itself.
    switch: int
    generator: int
    # All other threads of a switch. On a machine with two CPUs they share the generator's.
    other: int

    @property
    def all(self):
        return sorted({self.switch, self.other})

    def workers(self, count, apart=False):
        """CPUs for so many threads that move frames: the switch's, and the one of all others.

        With `apart` none that the generator has."""
        cpus = dict.fromkeys([self.switch, self.other])
        return [cpu for cpu in cpus if not (apart and cpu == self.generator)][:count]


class Switch:
    """A switch is made once and started for each measurement."""

    name = title = ""
    # The Debian package it comes in; None: the repository.
    package = None
    # Whether it changes frames on their way.
    rewrites = False

    def __init__(self, cpus):
        self.cpus = cpus
        self.processes = []

    def version(self):
        return output(["dpkg-query", "-W", "-f", "${Version}", self.package])

    # Seconds that a measurement may take longer with this switch than with others.
    patience = 0

    def measures(self, case):
        """Whether there is anything to be measured; else the table has a dash."""
        return not case.only or self.name in case.only

    def arguments(self, case):
        """What swivel-bench is called with."""
        return case.arguments

    def refuses(self, case):
        """Why this switch cannot do the case, or None."""
        return None

    def start(self, folder, case):
        """Starts it with its files in `folder`; returns the path of each port's socket."""
        raise NotImplementedError

    @property
    def process(self):
        """The process that switches: the one started last."""
        return self.processes[-1]

    def threads(self):
        return self.process.threads()

    def keep(self, process):
        self.processes.append(process)
        return process

    def check(self):
        for process in self.processes:
            process.check()

    def unaccounted(self):
        """Frames that it took and neither delivered nor counted as dropped, if it can tell."""
        return None

    def stop(self):
        while self.processes:
            self.processes.pop().end()


def socket_paths(folder, prefix, count):
    return [os.path.join(folder, f"{prefix}{number}") for number in range(count)]
