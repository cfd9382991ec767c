"""What the comparison runs on: packages, hugepages, and the words that describe the machine."""

import os
import platform
import shutil
import subprocess
import time

from process import output

POLICY = "/usr/sbin/policy-rc.d"
HUGEPAGES = "/sys/kernel/mm/hugepages/hugepages-2048kB"


def installed(package):
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True
    )
    return query.stdout == "installed"


def install(packages):
    """Installs those Debian packages that are missing, and lets none start a service of its own."""
    missing = [package for package in packages if not installed(package)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SystemExit(f"peers: these Debian packages are needed: {' '.join(missing)}")
    print(f"installing {' '.join(missing)}", flush=True)
    # A system's Open vSwitch would poll, hold hugepages and own /var/run/openvswitch.
    forbidden = not os.path.exists(POLICY)
    if forbidden:
        with open(POLICY, "w") as policy:
            policy.write("#!/bin/sh\nexit 101\n")
        os.chmod(POLICY, 0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet = {"env": environment, "stdout": subprocess.DEVNULL, "check": True}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
            stderr=subprocess.DEVNULL,
            **quiet,
        )
    finally:
        if forbidden:
            os.remove(POLICY)


class Hugepages:
    """As many free 2 MiB hugepages as are wanted, for the time of a `with` block."""

    def __init__(self, wanted):
        self.wanted = wanted
        self.added = 0

    @staticmethod
    def _read(name):
        with open(f"{HUGEPAGES}/{name}") as file:
            return int(file.read())

    @staticmethod
    def _write(count):
        with open(f"{HUGEPAGES}/nr_hugepages", "w") as file:
            file.write(str(count))

    def __enter__(self):
        before = self._read("nr_hugepages")
        lacking = self.wanted - self._read("free_hugepages")
        if lacking > 0:
            self._write(before + lacking)
            self.added = self._read("nr_hugepages") - before
            if self.added < lacking:
                self.__exit__()
                raise SystemExit(f"peers: {self.wanted} free hugepages of 2 MiB are needed")
        return self

    def __exit__(self, *_):
        # Others may have changed the number since: ours are taken off what there is now.
        if self.added:
            self._write(max(0, self._read("nr_hugepages") - self.added))


def ticks():
    """Seconds that all CPUs have had together, those they were idle, and those the host took away."""
    with open("/proc/stat") as stat:
        counts = [int(count) / os.sysconf("SC_CLK_TCK") for count in stat.readline().split()[1:9]]
    _, _, _, idle, waiting, _, _, stolen = counts
    return sum(counts), idle + waiting, stolen


def await_idle(seconds):
    """Returns when nobody uses the CPUs, or when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = ticks()
        time.sleep(0.3)
        total, idle, _ = (now - then for now, then in zip(ticks(), before))
        if idle > 0.95 * total:
            break


def describe():
    """One line a fact: processor, cores, memory, kernel, system."""
    lscpu = {}
    for line in output(["lscpu"]).splitlines():
        key, _, value = line.partition(":")
        lscpu[key.strip()] = value.strip()
    with open("/proc/meminfo") as meminfo:
        memory = int(meminfo.readline().split()[1]) / (1 << 20)
    with open("/etc/os-release") as release:
        names = dict(line.rstrip().split("=", 1) for line in release if "=" in line)
    virtual = (
        f", a virtual machine ({lscpu['Hypervisor vendor']})"
        if "Hypervisor vendor" in lscpu
        else ""
    )
    return {
        "processor": lscpu.get("Model name", platform.machine()) + virtual,
        "CPUs": f"{lscpu.get('CPU(s)')}, {lscpu.get('Thread(s) per core')} thread a core, "
        f"{lscpu.get('NUMA node(s)')} NUMA node",
        "caches": f"L2 {lscpu.get('L2 cache', '?')}, L3 {lscpu.get('L3 cache', '?')}",
        "memory": f"{memory:.0f} GiB, hugepages of 2 MiB",
        "kernel": platform.release(),
        "system": names.get("PRETTY_NAME", "").strip('"'),
    }
