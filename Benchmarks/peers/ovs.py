"""Open vSwitch with its DPDK data path and its default flow, NORMAL: a learning switch, like swivel.

An instance of its own: database, sockets and logs in a folder, beside any that the system runs.
"""

import os

from process import Failure, Process, output
from relay import relay
from switch import Switch, socket_paths

VSWITCHD = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
# No name that a machine may have already.
BRIDGE = "swivel-peer"
INTERFACE = "/sys/class/net/ovs-netdev"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class OVS(Switch):
    name = "ovs"
    title = "OVS-DPDK"
    package = "openvswitch-switch-dpdk"
    # Whether the system's own has made that interface.
    had_interface = True

    def version(self):
        return "Open vSwitch " + super().version()

    def start(self, folder, case):
        self.folder = folder
        self.had_interface = os.path.exists(INTERFACE)
        sockets = socket_paths(folder, "ovs", case.sockets)
        self._database()
        self._daemon(case)
        # DPDK's vhost watches 1,024 descriptors at most; a port that listens has two of them.
        if not case.segmented and len(sockets) <= 400:
            self._bridge({path: "type=dpdkvhostuser" for path in sockets})
            self.process.await_sockets(sockets, 15 + len(sockets) / 20)
            return sockets
        # Ports that listen never offer segmentation offload; those that connect do.
        connected = [f"{path}-connected" for path in sockets]
        relay(list(zip(connected, sockets)))
        client = "type=dpdkvhostuserclient options:vhost-server-path="
        self._bridge({path: client + target for path, target in zip(sockets, connected)})
        return sockets

    def stop(self):
        # A daemon that is merely ended leaves the interfaces of its bridge to the system.
        if len(self.processes) > 1 and self.process.alive:
            control = f"--target={self._path('vswitchd.ctl')}"
            try:
                output(["ovs-appctl", "--timeout=10", control, "exit", "--cleanup"])
            except Failure:
                pass
        super().stop()
        # The cleanup leaves the data path's own interface.
        if not self.had_interface and os.path.exists(INTERFACE):
            output(["ip", "link", "delete", os.path.basename(INTERFACE)])

    # Everything lies in the folder.
    @property
    def _environment(self):
        names = ("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR")
        return {name: self.folder for name in names}

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _run(self, command):
        log = self._path(os.path.basename(command[0]) + ".log")
        return self.keep(Process(command, [self.cpus.other], log, self._environment))

    def _configure(self, *arguments, seconds=30):
        output(
            ["ovs-vsctl", f"--db=unix:{self._path('db.sock')}", f"--timeout={seconds}", *arguments],
            seconds + 5,
            environment=self._environment,
        )

    def _database(self):
        database = self._path("conf.db")
        output(["ovsdb-tool", "create", database, SCHEMA], environment=self._environment)
        sockets = [f"--remote=punix:{self._path('db.sock')}", f"--unixctl={self._path('db.ctl')}"]
        server = self._run(["ovsdb-server", database, *sockets, "-vconsole:warn"])
        server.await_sockets([self._path("db.sock")])

    def _daemon(self, case):
        options = {
            "dpdk-init": "true",
            "dpdk-extra": '"--no-pci --in-memory --single-file-segments"',
            "dpdk-socket-mem": "512",
            # The thread that polls has the switch's CPU to itself.
            "dpdk-lcore-mask": hex(1 << self.cpus.other),
            "pmd-cpu-mask": hex(sum(1 << cpu for cpu in self.cpus.workers(case.workers))),
            "vhost-sock-dir": ".",
            # Without this a frame may have no more than the MTU; with it small frames are slower.
            "userspace-tso-enable": "true" if case.segmented else "false",
        }
        if case.addresses > 1:
            # With many addresses it is faster without its cache of exact matches; with one, slower.
            options["emc-insert-inv-prob"] = "0"
        settings = [f"other_config:{key}={value}" for key, value in options.items()]
        self._configure("--no-wait", "init")
        self._configure("--no-wait", "set", "Open_vSwitch", ".", *settings)
        sockets = [f"unix:{self._path('db.sock')}", f"--unixctl={self._path('vswitchd.ctl')}"]
        self._run([VSWITCHD, *sockets, "-vconsole:warn"])

    def _bridge(self, ports):
        """Makes a bridge with a port for each path, with the settings that `ports` has for it."""
        command = ["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"]
        for path, settings in ports.items():
            port = os.path.basename(path)
            command += ["--", "add-port", BRIDGE, port, "--", "set", "Interface", port]
            command += settings.split()
        try:
            # It answers when the daemon has made every port.
            self._configure(*command, seconds=30 + len(ports) // 5)
        except Failure:
            self.process.check()
            raise
