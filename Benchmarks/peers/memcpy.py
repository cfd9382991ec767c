"""No switch at all: what one core's memcpy reaches with the frames of the case, from the senders'
buffers to the receivers', all in the generator's process."""

import platform

from switch import Switch


class Memcpy(Switch):
    name = title = "memcpy"

    def version(self):
        return " ".join(["memcpy of", *platform.libc_ver()])

    def measures(self, case):
        return case.copied

    def arguments(self, case):
        return "memcpy", *case.arguments

    def start(self, folder, case):
        return []

    def threads(self):
        return {}
