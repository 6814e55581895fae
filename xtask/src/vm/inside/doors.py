"""The ways round hoop, tried one by one as an agent; run as its unit, with what outside is as arguments.

For each a line: the door's name, `closed`, `open` or `unclear`, and what was seen. Whether anything arrived is
also asked of those whom it was meant for. Closed is what a refusal looks like, not whatever failed: a run where
nothing is closed tells the two apart.
"""

import ctypes
import errno
import os
import socket
import struct
import sys

OUTSIDE, TCP, UDP, DATABASE, PROXY = "10.0.2.2", int(sys.argv[1]), int(sys.argv[2]), "10.77.0.1", sys.argv[3]
libc = ctypes.CDLL(None, use_errno=True)

REFUSALS = {
    errno.EPERM,
    errno.EACCES,
    errno.EROFS,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EAFNOSUPPORT,
    errno.EPROTONOSUPPORT,
}


class Closed(Exception):
    pass


def called(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def speak(connection, door):
    """Connected may still mean hoop, which says nothing to what it does not know; whoever is outside answers."""
    connection.settimeout(5)
    connection.sendall(door.encode())
    answer = connection.recv(64)
    if answer.startswith(b"heard"):
        return
    raise Closed(f"answered {answer!r}" if answer else "closed without a word")


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
        # It must block: without a cookie of the server's the data waits for the connection.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 5, 0))
        connection.sendto(b"fast open", socket.MSG_FASTOPEN, (OUTSIDE, TCP))
        speak(connection, "fast open")


def tunnel():
    with socket.socket() as connection:
        connection.settimeout(5)
        connection.connect((OUTSIDE, TCP))
        speak(connection, "CONNECT db.prod.internal:5432 HTTP/1.1\r\n\r\n")


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
    array = struct.pack("IIII", 2, 4, 4, 1)
    called(libc.syscall(321, 0, ctypes.create_string_buffer(array, 120), 120))


def unix(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect(path)


def another_cgroup():
    with open("/sys/fs/cgroup/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))


def own_cgroup():
    os.mkdir("/sys/fs/cgroup/agents.slice/mine")


def namespaces():
    called(libc.unshare(0x10000000 | 0x40000000))


def namespace_of_init():
    try:
        init = os.open("/proc/1/ns/net", os.O_RDONLY)
    except FileNotFoundError:
        raise Closed("there is no other process in /proc") from None
    called(libc.setns(init, 0))


def this_host():
    """Whoever logs in here by ssh is not in the agent's cgroup any more."""
    with socket.socket() as connection:
        connection.settimeout(5)
        connection.connect(("127.0.0.1", 22))
        greeting = connection.recv(64)
    if not greeting.startswith(b"SSH-"):
        raise Closed(f"answered {greeting!r}" if greeting else "closed without a word")


def cron():
    path = "/etc/cron.d/a-door"
    with open(path, "w") as table:
        table.write("# by a door\n")
    os.unlink(path)


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
    own = {str(os.getpid()), str(os.getppid())}
    seen = [entry for entry in os.listdir("/proc") if entry.isdigit() and entry not in own]
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
    "sshd on this host": this_host,
    "a job for cron": cron,
    "another cgroup": another_cgroup,
    "a cgroup of its own": own_cgroup,
    "user and network namespaces": namespaces,
    "the host's network namespace by /proc": namespace_of_init,
    "the proxy's own port": proxy,
    "set-uid programs": privileges,
    "capabilities": capabilities,
    "other processes": others,
}



def tried(door):
    try:
        door()
        return "open", "went through"
    except Closed as closed:
        return "closed", str(closed)
    except OSError as error:
        return "closed" if error.errno in REFUSALS else "unclear", error.strerror or str(error)
    except RuntimeError as error:
        return "open", str(error)


for name, door in DOORS.items():
    # Each from where this one is: some of them change what they are in.
    child = os.fork()
    if child == 0:
        print(name, *tried(door), sep="\t", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
