"""The ways round hoop, tried one by one as an agent; run as its unit, with what outside is as arguments.

For each a line: the door's name, `closed` or `open`, and what was seen. Whether anything arrived is also
asked of those whom it was meant for.
"""

import ctypes
import os
import socket
import struct
import sys

OUTSIDE, TCP, UDP, DATABASE, PROXY = "10.0.2.2", int(sys.argv[1]), int(sys.argv[2]), "10.77.0.1", sys.argv[3]
libc = ctypes.CDLL(None, use_errno=True)


class Closed(Exception):
    pass


def called(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def speak(connection, door):
    """Connected may still mean hoop, which says nothing to what it does not know; what arrives outside counts."""
    connection.settimeout(5)
    connection.sendall(door.encode())
    answer = connection.recv(64)
    raise Closed(f"answered {answer!r}" if answer else "closed by hoop")


def tcp(door, family=socket.AF_INET, protocol=0, address=OUTSIDE):
    with socket.socket(family, socket.SOCK_STREAM, protocol) as connection:
        connection.settimeout(5)
        connection.connect((address, TCP))
        speak(connection, door)


def another_port():
    tcp("another port")


def mapped():
    tcp("an IPv4 address as IPv6", socket.AF_INET6, 0, "::ffff:" + OUTSIDE)


def fast_open():
    with socket.socket() as connection:
        connection.settimeout(5)
        connection.sendto(b"fast open", socket.MSG_FASTOPEN, (OUTSIDE, TCP))
        speak(connection, "fast open")


def tunnel():
    with socket.socket() as connection:
        connection.settimeout(5)
        connection.connect((OUTSIDE, TCP))
        connection.sendall(b"CONNECT db.prod.internal:5432 HTTP/1.1\r\n\r\n")
        speak(connection, "a tunnel of HTTP")


def datagrams():
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.sendto(b"datagrams", (OUTSIDE, UDP))


def connected_datagrams():
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.connect((OUTSIDE, UDP))
        one.send(b"connected datagrams")


def multipath():
    tcp("multipath", protocol=262)


def sctp():
    socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET, 132).close()


def raw():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 253).close()


def ping():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as one:
        one.sendto(struct.pack("!BBHHH", 8, 0, 0xF7FF, 0, 0), (OUTSIDE, 0))


def packets():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)).close()


def virtual_machines():
    socket.socket(40, socket.SOCK_STREAM).close()


def netlink():
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


def io_uring():
    called(libc.syscall(425, 4, ctypes.create_string_buffer(120)))


def bpf():
    called(libc.syscall(321, 0, ctypes.create_string_buffer(120), 120))


def unix(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect(path)


def another_cgroup():
    for group in ("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/system.slice/cgroup.procs"):
        with open(group, "w") as procs:
            procs.write(str(os.getpid()))


def own_cgroup():
    os.mkdir("/sys/fs/cgroup/agents.slice/mine")


def namespaces():
    called(libc.unshare(0x10000000 | 0x40000000))


def namespace_of_init():
    called(libc.setns(os.open("/proc/1/ns/net", os.O_RDONLY), 0))


def proxy():
    host, port = PROXY.rsplit(":", 1)
    with socket.socket() as connection:
        connection.settimeout(5)
        connection.connect((host, int(port)))
        speak(connection, "the proxy's own port")


def privileges():
    if open("/proc/self/status").read().split("NoNewPrivs:\t")[1][0] != "1":
        return
    raise Closed("a program with more rights than its caller gets none")


def capabilities():
    held = [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")]
    if all(int(one, 16) == 0 for one in held):
        raise Closed("none, in no set")


def others():
    seen = [entry for entry in os.listdir("/proc") if entry.isdigit() and entry != str(os.getpid())]
    if not seen:
        raise Closed("sees no process but its own")
    raise RuntimeError("sees " + " ".join(seen[:5]))


DOORS = {
    "TCP to another port": another_port,
    "an IPv4 address as IPv6": mapped,
    "data in the first packet (fast open)": fast_open,
    "a tunnel by HTTP CONNECT": tunnel,
    "UDP and QUIC": datagrams,
    "UDP, connected": connected_datagrams,
    "MPTCP": multipath,
    "SCTP": sctp,
    "raw IP": raw,
    "ICMP": ping,
    "AF_PACKET": packets,
    "AF_VSOCK": virtual_machines,
    "AF_NETLINK": netlink,
    "io_uring": io_uring,
    "bpf()": bpf,
    "the database's Unix socket": lambda: unix("/run/postgresql/.s.PGSQL.5432"),
    "D-Bus (systemd-run)": lambda: unix("/run/dbus/system_bus_socket"),
    "systemd's own socket": lambda: unix("/run/systemd/private"),
    "a container engine's socket": lambda: unix("/run/docker.sock"),
    "hoop's control socket": lambda: unix("/run/hoop/control.sock"),
    "another cgroup": another_cgroup,
    "a cgroup of its own": own_cgroup,
    "user and network namespaces": namespaces,
    "the host's network namespace by /proc": namespace_of_init,
    "the proxy's own port": proxy,
    "set-uid programs": privileges,
    "capabilities": capabilities,
    "other processes": others,
}

for name, door in DOORS.items():
    try:
        door()
        state, seen = "open", "went through"
    except Closed as closed:
        state, seen = "closed", str(closed)
    except OSError as error:
        state, seen = "closed", error.strerror or str(error)
    except RuntimeError as error:
        state, seen = "open", str(error)
    print(f"{name}\t{state}\t{seen}", flush=True)
