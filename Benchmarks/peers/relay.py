"""Brings together two parties that both connect: a switch in client mode and a generator.

Only the few messages of the vhost-user protocol go through here, with the descriptors of memory and
rings that they carry; frames never do.
"""

import os
import socket
import threading


def relay(switch_path, generator_path):
    """Listens at both paths, and carries messages once both are connected to."""
    listeners = [_listen(path) for path in (switch_path, generator_path)]
    threading.Thread(target=_serve, args=listeners, daemon=True).start()


def _listen(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    return listener


def _serve(*listeners):
    ends = [listener.accept()[0] for listener in listeners]
    threading.Thread(target=_carry, args=ends, daemon=True).start()
    _carry(*reversed(ends))


def _carry(source, target):
    """Until either end hangs up; then both have."""
    try:
        while True:
            data, descriptors, _, _ = socket.recv_fds(source, 65536, 16)
            if not data:
                break
            if descriptors:
                socket.send_fds(target, [data], descriptors)
            else:
                target.sendall(data)
            for descriptor in descriptors:
                os.close(descriptor)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
