"""Brings together two parties that both connect: a switch in client mode and a generator.

Only the few messages of the vhost-user protocol go through here, with the descriptors of memory and
rings that they carry; frames never do.
"""

import os
import selectors
import socket
import threading


def relay(pairs):
    """Listens at both paths of each pair, and carries messages between them once both are connected
    to: one thread for all."""
    selector = selectors.DefaultSelector()
    for paths in pairs:
        ends = []
        for path in paths:
            listener = _listen(path)
            selector.register(listener, selectors.EVENT_READ, (_accept, ends))
    threading.Thread(target=_serve, args=[selector], daemon=True).start()


def _listen(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    return listener


def _serve(selector):
    while selector.get_map():
        for key, _ in selector.select():
            act, subject = key.data
            act(selector, key.fileobj, subject)


def _accept(selector, listener, ends):
    """One of a pair has come; with the second messages begin to flow."""
    ends.append(listener.accept()[0])
    selector.unregister(listener)
    listener.close()
    if len(ends) == 2:
        for source, target in (ends, reversed(ends)):
            selector.register(source, selectors.EVENT_READ, (_carry, target))


def _carry(selector, source, target):
    """What has come from one end; when it hangs up, both have."""
    descriptors = []
    try:
        data, descriptors, _, _ = socket.recv_fds(source, 65536, 16)
        if descriptors:
            socket.send_fds(target, [data], descriptors)
        else:
            target.sendall(data)
        if data:
            return
    except OSError:
        pass
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    for end in (source, target):
        try:
            selector.unregister(end)
            end.shutdown(socket.SHUT_RDWR)
        except (KeyError, ValueError, OSError):
            pass
        end.close()
