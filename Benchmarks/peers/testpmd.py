"""DPDK's testpmd with its vhost ports (net_vhost): no switch, a wire, which costs DPDK's vhost.

`io` sends what one port received through the other and never looks at a frame; `mac` writes both
addresses of each anew.
"""

import os

from process import Process
from switch import Switch, socket_paths


# DPDK's RTE_MAX_ETHPORTS, as Debian builds it.
PORTS = 32


class Testpmd(Switch):
    package = "dpdk-dev"

    def __init__(self, mode, cpus):
        super().__init__(cpus)
        self.mode = mode
        self.name = f"testpmd-{mode}"
        self.title = f"testpmd {mode}"
        self.rewrites = mode == "mac"

    def version(self):
        return "DPDK " + super().version()

    def refuses(self, case):
        if case.switched or case.ports > 4:
            return "sends what comes in at a port out at another, whatever the address"
        if case.sockets > PORTS:
            return f"has {PORTS} ports at most"
        return None

    def start(self, folder, case):
        sockets = socket_paths(folder, "testpmd", case.sockets)
        environment = [*self._environment(), *self._devices(sockets, case)]
        process = Process(
            ["dpdk-testpmd", *environment, "--", *self._options(case)],
            cpus=self.cpus.all,
            log=os.path.join(folder, "testpmd.log"),
            interactive=True,
        )
        self.keep(process).await_sockets(sockets)
        process.say("start")
        return sockets

    def _environment(self):
        # The main lcore only reads commands.
        lcores = f"--lcores=0@{self.cpus.other},1@{self.cpus.switch}"
        memory = ["--in-memory", "--single-file-segments", "-m", "384"]
        return [lcores, "--main-lcore=0", "--no-pci", *memory]

    def _devices(self, sockets, case):
        # Segmentation offload is off by default; with the older meaning of its flags a frame's
        # segment size goes from one guest to the other with no code in between.
        offloads = ",tso=1,legacy-ol-flags=1" if case.segmented else ""
        return [
            f"--vdev=net_vhost{number},iface={path},queues=1{offloads}"
            for number, path in enumerate(sockets)
        ]

    def _options(self, case):
        options = ["-i", f"--forward-mode={self.mode}", "--nb-cores=1"]
        if case.segmented:
            # Frames are chains of buffers; what is under way must stay in the cache: bursts of 32
            # in small buffers give a fifth of this.
            buffers = ["--mbuf-size=16512", "--total-num-mbufs=4096", "--burst=4"]
            return [*options, "--tx-offloads=0x8000", *buffers]
        # Bursts of 64 and 128, more buffers and larger caches of them are not faster.
        return [*options, "--total-num-mbufs=16384"]
