"""swivel itself: the release build, one worker that always polls, as the others do, unless a case is about sleep."""

import http.client
import json
import os
import socket

from process import Process, output
from switch import Switch, socket_paths

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Where the programs are, if not in this checkout.
PROGRAMS = os.environ.get("SWIVEL_PROGRAMS", os.path.join(REPOSITORY, ".build", "release"))


class Swivel(Switch):
    name = "swivel"
    title = "swivel"
    checkout = REPOSITORY
    programs = PROGRAMS

    def version(self):
        described = output(["git", "-C", self.checkout, "describe", "--always", "--dirty"])
        return f"{self.title} {described.strip()}"

    def start(self, folder, case):
        sockets = socket_paths(folder, "swivel", case.sockets)
        self.control = os.path.join(folder, "control.sock")
        configuration = os.path.join(folder, "swivel.yaml")
        poll = "adaptive" if case.sleeps else "busy"
        with open(configuration, "w") as file:
            file.write(f"control: {{ socket: {self.control} }}\n")
            cpus = self.cpus.workers(case.workers)
            file.write(f"workers: {{ cpus: {cpus}, poll: {poll} }}\n")
            file.write("ports:\n")
            for number, path in enumerate(sockets):
                file.write(f"  - {{ name: port{number}, vhost-user: {{ path: {path} }} }}\n")
        process = Process(
            [os.path.join(self.programs, "swiveld"), "--config", configuration],
            cpus=self.cpus.all,
            log=os.path.join(folder, "swiveld.log"),
        )
        self.keep(process).await_sockets(sockets, 15 + len(sockets) / 20)
        return sockets

    def arguments(self, case):
        # What it drops is told by name.
        return *super().arguments(case), "--control", self.control

    def unaccounted(self):
        connection = http.client.HTTPConnection("swivel")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.control)
        connection.request("GET", "/v1/stats")
        stats = json.load(connection.getresponse())
        connection.close()
        taken, delivered = stats["received"], stats["sent"]
        dropped = sum([*taken["drops"].values(), *delivered["drops"].values()])
        return taken["frames"] + taken["replicas"] - delivered["frames"] - dropped


class Before(Swivel):
    """The release build of another checkout, to see what a change has done."""

    name = "before"
    title = "swivel before"

    def __init__(self, cpus, checkout):
        super().__init__(cpus)
        self.checkout = os.path.abspath(checkout)
        self.programs = os.path.join(self.checkout, ".build", "release")
