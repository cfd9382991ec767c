"""What is measured: a case is a way to call the generator, and the figure taken from its answer."""

from collections.abc import Callable
from dataclasses import dataclass


def packets(result):
    return result["mpps"]


def bits(result):
    return result["gbps"]


def median_time(result):
    points = result["latency"]["percentiles"]
    return next(point["microseconds"] for point in points if point["percentile"] == 50)


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    # Arguments of swivel-bench, besides those that all cases have.
    arguments: tuple
    figure: Callable = packets
    unit: str = "Mpps"
    ports: int = 2
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


def rate(name, size, title, *arguments, **more):
    return Case(name, f"{size} B, {title}", ("--size", str(size), *arguments), **more)


PACKED = ("--ring", "packed")

CASES = (
    rate("64", 64, "split ring"),
    rate("64-whole", 64, "split ring, not mergeable", "--no-mergeable"),
    rate("64-packed", 64, "packed ring", *PACKED),
    rate("64-macs", 64, "64 addresses a port", "--macs", "64", addresses=64),
    rate("512", 512, "split ring"),
    rate("512-packed", 512, "packed ring", *PACKED),
    rate("1514", 1514, "split ring"),
    rate("1514-packed", 1514, "packed ring", *PACKED),
    # The buffers of all rings together fit in a processor's second cache level; of 256 each they may not.
    rate("1514-128", 1514, "split rings of 128", "--ring-size", "128"),
    rate("1514-packed-128", 1514, "packed rings of 128", *PACKED, "--ring-size", "128"),
    # What a Linux guest's TCP sends at once: 45 segments of 1448 bytes with one set of headers.
    Case(
        "64k", "64 KiB (65226 B), split ring", ("--size", "65226", "--segmented"), bits, "Gbit/s", segmented=True
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
)

# Every byte of every frame is checked, which takes most of the time.
SMOKE = rate("smoke", 64, "every byte checked", "--verify")
