"""swivel-bench: plays the guests on the sockets of a switch, from one CPU."""

import json
import os
import time

from machine import ticks
from process import Failure, Process, ran, waited
from swivel import PROGRAMS

# Seconds until the generator is thought to hang. A search takes a good many measurements.
LIMIT = 90


def measure(case, sockets, seconds, cpus, folder, switch):
    """Runs the case once; returns what swivel-bench found. Fails when it or the switch does."""
    # Where frames are rewritten there is nothing to hold them against.
    arguments = [a for a in switch.arguments(case) if a != "--verify" or not switch.rewrites]
    command = [os.path.join(PROGRAMS, "swivel-bench"), *arguments, "--json"]
    command += ["--cpu", cpus.generator, "--seconds", seconds]
    for path in sockets:
        command += ["--socket", path]
    answer = os.path.join(folder, "answer.json")
    log = os.path.join(folder, "swivel-bench.log")
    generator = Process(command, [cpus.generator], log, answer=answer)
    try:
        waits = watch(generator, switch, seconds)
        switch.check()
    finally:
        generator.end()
    # It also ends with a status of its own when it has results and frames were damaged.
    try:
        with open(answer) as file:
            result = json.load(file)["results"][0]
    except (ValueError, LookupError):
        raise Failure(f"swivel-bench: {generator.last_line().replace(folder, '…')}") from None
    return {**result, **waits}


def watch(generator, switch, seconds):
    """Returns when the generator has ended, with the seconds, of the last `seconds`, in which it and
    the thread that switches waited for their CPUs, and those that the host took from all CPUs:
    hardly any on a machine that nobody shares; and the CPU that all threads of the switch took, in per cent
    of one."""
    deadline = time.monotonic() + LIMIT + switch.patience
    readings = []
    while True:
        ended = generator.has_ended()
        reading = generator.threads(), switch.threads(), ticks()[2]
        readings.append((time.monotonic(), *reading))
        if ended:
            break
        if readings[-1][0] > deadline:
            raise Failure(f"swivel-bench did not end: {generator.last_line()}")
        time.sleep(0.25)
    after = readings[-1]
    before = next(reading for reading in readings if reading[0] >= after[0] - seconds - 0.25)
    return {
        "generatorWaited": waited(before[1], after[1]),
        "switchWaited": waited(before[2], after[2]),
        "stolen": after[3] - before[3],
        "switchCPU": 100 * ran(before[2], after[2]) / (after[0] - before[0]),
    }
