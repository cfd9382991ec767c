"""What is measured: a case is a way to call the generator, and the figure taken from its answer."""

from collections.abc import Callable
from dataclasses import dataclass

from process import Failure


def packets(result):
    return result["mpps"]


def bits(result):
    return result["gbps"]


def time(result, percentile):
    points = result.get("latency", {}).get("percentiles", [])
    found = [point["microseconds"] for point in points if point["percentile"] == percentile]
    if not found:
        raise Failure("no frame arrived in time")
    return found[0]


def median_time(result):
    return time(result, 50)


def late_time(result):
    return time(result, 99)


def processor(result):
    return result["switchCPU"]


def remaining(result):
    """What is left of the rate beside single frames, in per cent."""
    return 100 * result["gbps"] / result["gbpsAlone"]


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    # Arguments of swivel-bench, besides those that all cases have.
    arguments: tuple
    figure: Callable = packets
    unit: str = "Mpps"
    # Ports at which something happens, and further ones whose guests are silent.
    ports: int = 2
    idle: int = 0
    # Threads that move frames.
    workers: int = 1
    # Only a switch that looks at addresses can do it.
    switched: bool = False
    # What it would be if nothing had to be done but to copy is measured too.
    copied: bool = False
    # Workers that can sleep when there is nothing to do may.
    sleeps: bool = False
    # Of each port.
    addresses: int = 1
    # Frames longer than any MTU, with segmentation offload from guest to guest.
    segmented: bool = False
    # Less is better: a time rather than a rate.
    falling: bool = False
    # The figure is the share of what this case gave in the same round, in per cent.
    share_of: str = ""
    # The switches it is meant for; empty: all.
    only: tuple = ()

    @property
    def sockets(self):
        return self.ports + self.idle


def rate(name, size, title, *arguments, **more):
    return Case(name, f"{size} B, {title}", ("--size", str(size), *arguments), **more)


def idle(count):
    """The rate and the round trip of a pair beside so many guests that are there and silent."""
    arguments = ("--idle-ports", str(count))
    beside = f"beside {count} idle ports"
    yield rate(f"idle-{count}", 64, f"split ring, {beside}", *arguments, idle=count)
    yield Case(
        f"ping-{count}",
        f"64 B there and back, median, {beside}",
        ("ping", *arguments),
        median_time,
        "µs",
        idle=count,
        falling=True,
    )


PACKED = ("--ring", "packed")
LARGE = ("--size", "65226", "--segmented")
MIXED = ("--mixed", *LARGE)

CASES = (
    rate("64", 64, "split ring"),
    rate("64-whole", 64, "split ring, not mergeable", "--no-mergeable"),
    rate("64-packed", 64, "packed ring", *PACKED),
    rate("64-macs", 64, "64 addresses a port", "--macs", "64", addresses=64),
    rate("512", 512, "split ring"),
    rate("512-packed", 512, "packed ring", *PACKED),
    rate("1514", 1514, "split ring", copied=True),
    rate("1514-packed", 1514, "packed ring", *PACKED, copied=True),
    # The buffers of all rings together fit in a processor's second cache level; of 256 each they may not.
    rate("1514-128", 1514, "split rings of 128", "--ring-size", "128"),
    rate("1514-packed-128", 1514, "packed rings of 128", *PACKED, "--ring-size", "128"),
    # What a Linux guest's TCP sends at once: 45 segments of 1448 bytes with one set of headers.
    Case(
        "64k", "64 KiB (65226 B), split ring", LARGE, bits, "Gbit/s", segmented=True, copied=True
    ),
    rate("flood", 64, "flood to 8 ports, copies", "--pattern", "flood", ports=9),
    Case("ping", "64 B there and back, median", ("ping",), median_time, "µs", falling=True),
    Case(
        "zero-loss",
        "64 B, highest rate without loss, rings of 1024, of the rate of rings of 256",
        # A ring of 256 covers 12 microseconds at these rates, less than many an interruption lasts.
        ("zero-loss", "--ring-size", "1024"),
        unit="%",
        share_of="64",
        only=("swivel",),
    ),
    *idle(100),
    *idle(400),
    *idle(1000),
    Case(
        "cold",
        "64 B, first frame of one of 1000 idle guests beside a busy pair, one way, 99 %",
        ("cold", "--idle-ports", "1000"),
        late_time,
        "µs",
        idle=1000,
        falling=True,
        switched=True,
    ),
    # What it costs to be there while hardly anything happens.
    Case(
        "sleep-cpu",
        "CPU of the switch with 100 idle ports and ten frames a second",
        ("latency", "--size", "64", "--rate", "10", "--idle-ports", "100"),
        processor,
        "% of a CPU",
        idle=100,
        falling=True,
        sleeps=True,
    ),
    # A pair with one small frame at a time beside one with frames of 64 KiB.
    Case("mixed", "64 KiB beside single frames", MIXED, bits, "Gbit/s", ports=4, segmented=True),
    Case(
        "mixed-share",
        "64 KiB beside single frames, of the rate without them",
        MIXED,
        remaining,
        "%",
        ports=4,
        segmented=True,
    ),
    Case(
        "mixed-late",
        "single frames of 64 B beside 64 KiB, one way, 99 %",
        MIXED,
        late_time,
        "µs",
        ports=4,
        segmented=True,
        falling=True,
    ),
    Case(
        "fan-in",
        "64 KiB, three ports to one, two workers",
        ("--pattern", "fan-in", *LARGE),
        bits,
        "Gbit/s",
        ports=4,
        workers=2,
        switched=True,
        segmented=True,
    ),
)

# Every byte of every frame is checked, which takes most of the time.
SMOKE = rate("smoke", 64, "every byte checked", "--verify")
SMOKE_IDLE = rate("smoke-idle", 64, "beside 8 idle ports", "--idle-ports", "8", idle=8)
