"""Sends what no SSH client should, and says how the other side took it: one JSON line per case."""

import json
import random
import socket
import struct
import sys
import time

import paramiko

HOST, USER, FILE = sys.argv[1:]
LIMIT = 15


def ended(sock):
    """Whether the other side ends the connection within the limit, and how much it said."""
    sock.settimeout(LIMIT)
    said = 0
    try:
        while more := sock.recv(65536):
            said += len(more)
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False, said
    return True, said


def raw(data):
    with socket.create_connection((HOST, 22), timeout=LIMIT) as sock:
        try:
            sock.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            return True, 0
        return ended(sock)


def report(case, fine, detail=None):
    print(json.dumps({"case": case, "fine": bool(fine), "detail": str(detail)}), flush=True)


def bytes_of_no_meaning():
    noise = random.Random(1)
    for case, data in [
        ("a version line without end", b"SSH-2.0-" + b"x" * 100_000),
        ("noise", noise.randbytes(4096) + b"\r\n"),
        ("a version, then noise", b"SSH-2.0-x\r\n" + noise.randbytes(1 << 16)),
        ("a packet of 4 GiB", b"SSH-2.0-x\r\n" + struct.pack(">I", 0xFFFFFFFF) + b"\0" * 4096),
        ("SSH 1", b"SSH-1.5-old\r\n" + noise.randbytes(512)),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100),
    ]:
        over, said = raw(data)
        report(case, over and said < 100_000, said)


def connected():
    transport = paramiko.Transport((HOST, 22))
    transport.start_client(timeout=LIMIT)
    transport.auth_none(USER)
    return transport


def many_channels():
    transport = connected()
    opened, refused = [], 0
    for _ in range(200):
        try:
            opened.append(transport.open_session(timeout=LIMIT))
        except paramiko.ChannelException:
            refused += 1
        except paramiko.SSHException:
            break
    report("200 channels", 0 < len(opened) <= 128, (len(opened), refused))
    transport.close()


def channels_that_say_nothing():
    transport = connected()
    for _ in range(50):
        transport.open_session(timeout=LIMIT).close()
    channel = transport.open_session(timeout=LIMIT)
    channel.exec_command("echo still here")
    report("channels that are closed at once", channel.makefile().read() == b"still here\n")
    transport.close()


def broken_sftp():
    """Packets that are none, on the SFTP subsystem."""
    for case, data in [
        ("SFTP packet of 2 GiB", struct.pack(">IB", 1 << 31, 3)),
        ("SFTP packet without a body", struct.pack(">I", 0)),
        ("SFTP open that ends early", struct.pack(">IBII", 9, 3, 1, 100)),
        ("SFTP request of no kind", struct.pack(">IBI", 5, 99, 1)),
    ]:
        transport = connected()
        channel = transport.open_session(timeout=LIMIT)
        channel.invoke_subsystem("sftp")
        channel.sendall(struct.pack(">IBI", 5, 1, 3))
        channel.settimeout(LIMIT)
        channel.recv(4096)
        channel.sendall(data)
        try:
            while channel.recv(65536):
                pass
            fine = True
        except TimeoutError:
            fine = False
        report(case, fine)
        transport.close()


def subsystem_and_more(transport, name, more):
    """A request, and at once what belongs to it, without waiting for an answer."""
    channel = transport.open_session(timeout=LIMIT)
    request = paramiko.Message()
    request.add_byte(bytes([98]))
    request.add_int(channel.remote_chanid)
    request.add_string(name[0])
    request.add_boolean(False)
    request.add_string(name[1])
    transport._send_user_message(request)
    channel.sendall(more)
    channel.settimeout(1)
    try:
        while channel.recv(65536):
            pass
    except (TimeoutError, OSError):
        pass
    channel.close()


def before_the_decision():
    """What belongs to a request that is not decided yet is decided as ever."""
    path = FILE.encode()
    remove = struct.pack(">BII", 13, 7, len(path)) + path
    greeting = struct.pack(">IBI", 5, 1, 3)
    packets = greeting + struct.pack(">I", len(remove)) + remove
    folder, name = path.rsplit(b"/", 1)
    record = b"C0644 5 " + name + b"\nowned\0"
    transport = connected()
    for _ in range(5):
        subsystem_and_more(transport, (b"subsystem", b"sftp"), packets)
        subsystem_and_more(transport, (b"exec", b"scp -t " + folder), record)
    transport.close()
    report("sent before the decision", True)


def input_for_nothing():
    """Data on a channel before anything was asked for, and signals to nothing."""
    transport = connected()
    channel = transport.open_session(timeout=LIMIT)
    channel.sendall(b"x" * 200_000)
    channel.exec_command("cat | wc -c")
    channel.sendall(b"counted")
    channel.shutdown_write()
    report("input before a request", channel.makefile().read().strip() == b"7")
    transport.close()


def second_request():
    """A second command on a channel that runs one."""
    transport = connected()
    channel = transport.open_session(timeout=LIMIT)
    channel.exec_command("sleep 1; echo one")
    try:
        channel.exec_command("echo two")
        taken = True
    except paramiko.SSHException:
        taken = False
    said = channel.makefile().read()
    report("a second command on one channel", b"two" not in said, (taken, said))
    transport.close()


def rekeying():
    transport = connected()
    channel = transport.open_session(timeout=LIMIT)
    channel.exec_command("cat | sha256sum")
    for _ in range(8):
        channel.sendall(b"y" * 100_000)
        transport.renegotiate_keys()
    channel.shutdown_write()
    report("keys made anew while data flows", len(channel.makefile().read().split()) == 2)
    transport.close()


started = time.monotonic()
if FILE == "-":
    bytes_of_no_meaning()
    many_channels()
    channels_that_say_nothing()
    broken_sftp()
    input_for_nothing()
    second_request()
    rekeying()
else:
    before_the_decision()
report("in time", time.monotonic() - started < 50, time.monotonic() - started)
