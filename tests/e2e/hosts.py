"""Hosts with a network of their own between them: namespaces of the kernel, joined by a bridge that the test made.

Nothing of the machine's own network is touched, and nothing reaches it: the bridge lies in a namespace as well.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from sqlalchemy import make_url

from local.postgres import EmbeddedPostgres
from local.processes import Child
from local.valkey import EmbeddedValkey

_CLONE_NEWNET = 0x40000000
_NET = "10.231.77"
MIDDLE = f"{_NET}.1"
"""The address of the host in the middle, where the servers are."""


class NotAllowedError(Exception):
    """This machine or this user cannot make network namespaces; the message says what was refused."""


class Network:
    """A host in the middle and others around it, each with a cable to the bridge of the middle."""

    def __init__(self, *around: str) -> None:
        self._prefix = f"rubrika{os.getpid()}"
        self._made: list[str] = []
        self._around = around
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self._add("middle")
        self._ip("-n", self._name("middle"), "link", "add", "bridge", "type", "bridge")
        self._ip("-n", self._name("middle"), "addr", "add", f"{MIDDLE}/24", "dev", "bridge")
        self._ip("-n", self._name("middle"), "link", "set", "bridge", "up")
        for number, host in enumerate(self._around, 2):
            self._add(host)
            ends = "name", f"to-{host}", "type", "veth", "peer", "name", "cable", "netns", self._name(host)
            self._ip("-n", self._name("middle"), "link", "add", *ends)
            self._ip("-n", self._name("middle"), "link", "set", f"to-{host}", "up")
            self._ip("-n", self._name(host), "addr", "add", f"{_NET}.{number}/24", "dev", "cable")
            self._ip("-n", self._name(host), "link", "set", "cable", "up")
            self.heal(host)

    def close(self) -> None:
        """Take everything away. Processes that still run in it keep only themselves."""
        for name in self._made:
            with suppress(NotAllowedError):
                self._ip("netns", "delete", name)
        self._made = []

    def cut(self, host: str) -> None:
        """Take the cable out of the bridge: what is sent either way is never heard of again, and nobody is told."""
        self._ip("-n", self._name("middle"), "link", "set", f"to-{host}", "nomaster")

    def heal(self, host: str) -> None:
        """Put the cable into the bridge."""
        self._ip("-n", self._name("middle"), "link", "set", f"to-{host}", "master", "bridge")

    @contextmanager
    def on(self, host: str) -> Iterator[None]:
        """What this thread connects, listens on and starts in the block is on that host."""
        libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            inside = os.open(f"/run/netns/{self._name(host)}", os.O_RDONLY)
            try:
                _enter(libc, inside)
            finally:
                os.close(inside)
            try:
                yield
            finally:
                _enter(libc, before)
        finally:
            os.close(before)

    def _name(self, host: str) -> str:
        return f"{self._prefix}-{host}"

    def _add(self, host: str) -> None:
        self._ip("netns", "add", self._name(host))
        self._made.append(self._name(host))
        self._ip("-n", self._name(host), "link", "set", "lo", "up")

    @staticmethod
    def _ip(*arguments: str) -> None:
        try:
            subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)
        except FileNotFoundError as error:
            raise NotAllowedError("the program ip (package iproute2) is not there") from error
        except subprocess.CalledProcessError as error:
            raise NotAllowedError(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from error


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise NotAllowedError(f"setns: {os.strerror(ctypes.get_errno())}")


class NetworkPostgres(EmbeddedPostgres):
    """The embedded server, which here listens to the network as well."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, {"fsync": "off", "full_page_writes": "off"})
        self._rules = data_dir / "who-may-come"

    def prepare(self) -> Child:
        child = super().prepare()
        self._rules.write_text(f"local all all scram-sha-256\nhost all all {_NET}.0/24 scram-sha-256\n")
        self._rules.chmod(0o644)
        more = ("-c", f"listen_addresses={MIDDLE}", "-c", "port=5432", "-c", f"hba_file={self._rules}")
        return replace(child, argv=(*child.argv, *more))

    @property
    def network_url(self) -> str:
        """The address for other hosts, as SQLAlchemy takes it."""
        url = make_url(self.url).set(host=MIDDLE, port=5432, query={})
        return url.render_as_string(hide_password=False)


class NetworkValkey(EmbeddedValkey):
    """The embedded server, which here listens to the network as well."""

    network_url = f"redis://{MIDDLE}:6379/0"

    def prepare(self) -> Child:
        child = super().prepare()
        more = ("--port", "6379", "--bind", MIDDLE, "--protected-mode", "no")
        return replace(child, argv=(*child.argv, *more))
