"""A TCP proxy that cuts connections: before a request reaches the server, or after its answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Proxy:
    """Passes bytes on. ``cut`` is asked with every chunk that a client sends, before it is passed
    on: None passes it, ``"before"`` drops it and cuts, ``"after"`` passes it and cuts when the
    server has answered."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.cut: Callable[[bytes], str | None] = lambda _: None
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._open += [client, server]
            thread = threading.Thread(target=self._serve, args=(client, server), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        silent = threading.Event()
        answered = threading.Event()

        def back() -> None:
            with contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    if silent.is_set():
                        answered.set()
                        continue
                    client.sendall(data)
            answered.set()

        thread = threading.Thread(target=back, daemon=True)
        self._threads.append(thread)
        thread.start()
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 20):
                how = self.cut(data)
                if how == "before":
                    self.cuts += 1
                    break
                if how == "after":
                    self.cuts += 1
                    silent.set()
                    server.sendall(data)
                    answered.wait(10)
                    break
                server.sendall(data)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def proxy_to(host: str, port: int) -> Iterator[Proxy]:
    proxy = Proxy(host, port)
    try:
        yield proxy
    finally:
        proxy.close()
