"""What only the LSM tier closes, tried by a root without any other net: no unit, no filter of system calls.

Arguments: a governed cgroup, the TCP port of a server outside of it (on 10.77.0.1 or loopback), its address.
One process stays outside of the cgroup and helps; the other moves in and tries. For each door a line: its name,
`closed` or `open`, what was seen, and whether the same went through outside. Then what must go on working:
`works` or `broken`.
"""

import array
import ctypes
import os
import shutil
import socket
import struct
import sys
import tempfile

GROUP, HOST, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
FOLDER = tempfile.mkdtemp(prefix="tier-")
os.chmod(FOLDER, 0o755)
libc = ctypes.CDLL(None, use_errno=True)


def listener(name, kind=socket.SOCK_STREAM):
    one = socket.socket(socket.AF_UNIX, kind)
    one.bind(os.path.join(FOLDER, name))
    if kind != socket.SOCK_DGRAM:
        one.listen(16)
    return one


def unix(path, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as one:
        one.settimeout(10)
        one.connect(path)
        if kind == socket.SOCK_DGRAM:
            one.send(b"hello")


def tcp():
    return socket.create_connection((HOST, PORT), 10)


def family(number, kind=socket.SOCK_STREAM):
    socket.socket(number, kind).close()


def pass_on(channel, one):
    channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [one.fileno()]))])


def receive(channel):
    _, ancillary, flags, _ = channel.recvmsg(16, socket.CMSG_SPACE(4))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) >= 4:
            return struct.unpack("i", data[:4])[0]
    raise OSError(0, "no descriptor arrived" + (" (cut)" if flags & socket.MSG_CTRUNC else ""))


# What is there for whoever is outside.
database = listener(".s.PGSQL.5432")
engine = listener("docker.sock", socket.SOCK_DGRAM)
packets = listener("mysqld.sock", socket.SOCK_SEQPACKET)
plain = listener("plain.sock")
relative = socket.socket(socket.AF_UNIX)
os.chdir(FOLDER)
relative.bind(".s.PGSQL.5433")
relative.listen(4)
os.symlink(os.path.join(FOLDER, ".s.PGSQL.5432"), os.path.join(FOLDER, "innocent"))
renamed = listener(".s.PGSQL.5434")
os.rename(os.path.join(FOLDER, ".s.PGSQL.5434"), os.path.join(FOLDER, "renamed"))
os.link(os.path.join(FOLDER, ".s.PGSQL.5432"), os.path.join(FOLDER, "linked"))


def path(name):
    return os.path.join(FOLDER, name)


def connected_unix():
    one = socket.socket(socket.AF_UNIX)
    one.connect(path(".s.PGSQL.5432"))
    return one


HELD = tcp()
PASSED = {
    "a connection passed by SCM_RIGHTS": HELD,
    "a socket that is not connected yet, passed": socket.socket(),
    "a listening socket, passed": socket.create_server(("127.0.0.1", 0)),
    "a UDP socket, passed": socket.socket(type=socket.SOCK_DGRAM),
    "a packet socket, passed": socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)),
    "a database's Unix connection, passed": connected_unix(),
}
DOORS = {
    "AF_PACKET": lambda: family(socket.AF_PACKET, socket.SOCK_RAW),
    "AF_VSOCK": lambda: family(40),
    "AF_ALG": lambda: family(38, socket.SOCK_SEQPACKET),
    "a database's Unix socket": lambda: unix(path(".s.PGSQL.5432")),
    "the same by a symbolic link": lambda: unix(path("innocent")),
    "the same by another name of its file": lambda: unix(path("linked")),
    "one whose file was renamed": lambda: unix(path("renamed")),
    "one that is bound by a relative path": lambda: unix(path(".s.PGSQL.5433")),
    "a database's socket of packets": lambda: unix(path("mysqld.sock"), socket.SOCK_SEQPACKET),
    "a container engine's socket of datagrams": lambda: unix(path("docker.sock"), socket.SOCK_DGRAM),
}
if os.path.exists("/run/postgresql/.s.PGSQL.5432"):
    DOORS["PostgreSQL's own"] = lambda: unix("/run/postgresql/.s.PGSQL.5432")


def said(action):
    try:
        action()
        return "open", "went through"
    except OSError as error:
        return "closed", error.strerror or str(error)


outside = {name: said(door)[0] for name, door in DOORS.items()}
ours, theirs = socket.socketpair()
PARENT = os.getpid()
child = os.fork()
if child:
    # The helper: passes one descriptor for each name that it is told.
    theirs.close()
    while True:
        told = ours.recv(256).decode()
        if not told:
            break
        if told == "a file":
            with open("/etc/hostname") as file:
                pass_on(ours, file)
        elif told == "plain":
            one = socket.socket(socket.AF_UNIX)
            one.connect(path("plain.sock"))
            pass_on(ours, one)
        elif told == "pair":
            near, far = socket.socketpair()
            pass_on(ours, far)
        elif told == "unused":
            pass_on(ours, socket.socket(socket.AF_UNIX))
        else:
            pass_on(ours, PASSED[told])
    status = os.waitpid(child, 0)[1]
    shutil.rmtree(FOLDER)
    sys.exit(os.waitstatus_to_exitcode(status))

ours.close()
for one in [HELD, *PASSED.values()]:
    one.close()
with open(os.path.join(GROUP, "cgroup.procs"), "w") as procs:
    procs.write(str(os.getpid()))


def ask(name):
    theirs.sendall(name.encode())
    os.close(receive(theirs))


def taken():
    """pidfd_getfd(2): the helper's own connection, by its number there."""
    pidfd = libc.syscall(434, PARENT, 0)
    if pidfd < 0:
        raise OSError(ctypes.get_errno(), "pidfd_open: " + os.strerror(ctypes.get_errno()))
    got = libc.syscall(438, pidfd, NUMBER, 0)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


NUMBER = [fd for fd in range(3, 64) if os.path.exists(f"/proc/{PARENT}/fd/{fd}")
          and os.readlink(f"/proc/{PARENT}/fd/{fd}").startswith("socket:")
          and b"TCP" in os.getxattr(f"/proc/{PARENT}/fd/{fd}", "system.sockprotoname")][0]


def tell(name, state, seen, also=""):
    print(f"{name}\t{state}\t{seen}{also}", flush=True)


for name, door in DOORS.items():
    tell(name, *said(door), f"; outside: {outside[name]}")
for name in PASSED:
    tell(name, *said(lambda: ask(name)))
tell("a connection taken by pidfd_getfd", *said(taken))


def connected_inside():
    """One that is not connected does not arrive; else where it goes would be another cgroup's affair."""
    theirs.sendall(b"unused")
    with socket.socket(fileno=receive(theirs)) as one:
        one.settimeout(10)
        one.connect(path(".s.PGSQL.5432"))


tell("a Unix socket of outside, connected inside", *said(connected_inside))


def own_listener():
    one = listener(".s.PGSQL.6000")
    unix(path(".s.PGSQL.6000"))
    one.close()


def own_descriptors():
    """Of its own, connected or not, handed from one of its processes to another."""
    left, right = socket.socketpair()
    if os.fork() == 0:
        server = socket.create_server(("127.0.0.1", 0))
        pass_on(left, server)
        os._exit(0)
    os.wait()
    os.close(receive(right))


for name, action in {
    "a Unix socket of no such name": lambda: unix(path("plain.sock")),
    "its own listener, whatever it is called": own_listener,
    "its own sockets, among its own processes": own_descriptors,
    "a file's descriptor, passed": lambda: ask("a file"),
    "another Unix connection, passed": lambda: ask("plain"),
    "one end of a pair, passed": lambda: ask("pair"),
    "netlink": lambda: family(socket.AF_NETLINK, socket.SOCK_RAW),
    "hoop's control socket": lambda: os.path.exists("/run/hoop/control.sock") and unix("/run/hoop/control.sock"),
}.items():
    state, seen = said(action)
    tell(name, "works" if state == "open" else "broken", seen)
