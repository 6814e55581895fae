"""What libssh2 does with a server, by way of ssh2-python; and libgit2 over it, by way of pygit2."""

import base64
import os
import socket
import time

import pygit2
from ssh2 import sftp as flags
from ssh2.session import Session
from told import case, end

HOST, USER = os.environ["SSH_HOST"], os.environ["SSH_ACCOUNT"]
KEY = os.environ["SSH_KEY"]
THERE = os.environ["THERE"]
ECHO = os.environ["SSH_ECHO"].rsplit(":", 1)
READ = flags.LIBSSH2_FXF_READ
WRITE = flags.LIBSSH2_FXF_CREAT | flags.LIBSSH2_FXF_WRITE | flags.LIBSSH2_FXF_TRUNC


def connected():
    session = Session()
    session.handshake(socket.create_connection((HOST, 22)))
    key, _ = session.hostkey()
    with open(os.environ["SSH_KNOWN"]) as known:
        assert base64.b64encode(key).decode() in known.read()
    session.userauth_publickey_fromfile(USER, KEY)
    return session


def all_of(read):
    data = b""
    while True:
        size, piece = read(65536)
        if size <= 0:
            return data
        data += piece


def written(into, data):
    view = memoryview(data)
    while view:
        _, count = into.write(bytes(view[:32768]))
        view = view[count:]


def run(session, command, stdin=b""):
    channel = session.open_session()
    channel.execute(command)
    written(channel, stdin)
    channel.send_eof()
    out = all_of(channel.read)
    err = all_of(channel.read_stderr)
    channel.wait_eof()
    channel.close()
    channel.wait_closed()
    return [channel.get_exit_status(), out, err, channel.get_exit_signal()[1]]


def commands(session):
    with case("a command") as seen:
        seen += run(session, "echo out; echo err >&2; exit 4")
    with case("standard input") as seen:
        seen += run(session, "sha256sum", b"typed\n" * 1000)
    with case("a large output") as seen:
        seen += run(session, "head -c 10000000 /dev/zero | tr '\\0' x")
    with case("ended by a signal") as seen:
        seen += run(session, "kill -TERM $$")
    with case("a terminal") as seen:
        channel = session.open_session()
        channel.pty("vt100")
        channel.execute("echo $TERM; tty >/dev/null && echo on a terminal")
        seen.append(all_of(channel.read))
        channel.close()
    with case("a shell") as seen:
        channel = session.open_session()
        channel.shell()
        written(channel, b"echo shell-$((40 + 2)); exit 5\n")
        seen.append(all_of(channel.read))
        channel.close()
        channel.wait_closed()
        seen.append(channel.get_exit_status())
    with case("a variable") as seen:
        channel = session.open_session()
        channel.setenv("LC_ALL", "C.UTF-8")
        channel.execute("echo $LC_ALL")
        seen.append(all_of(channel.read))
        channel.close()


def files(session):
    sftp = session.sftp_init()
    content = b"by libssh2\n" * 200_000
    at = lambda name: f"{THERE}/{name}"  # noqa: E731
    with case("sftp: write") as seen:
        with sftp.open(at("file"), WRITE, 0o644) as file:
            written(file, content)
            file.fsync()
    with case("sftp: read") as seen:
        with sftp.open(at("file"), READ, 0) as file:
            data = b""
            for size, piece in file:
                data += piece
            seen += [data, data == content]
            file.seek64(100)
            seen.append(file.read(20))
            told = file.fstat()
            seen += [oct(told.permissions), told.filesize]
    with case("sftp: folders") as seen:
        sftp.mkdir(at("d"), 0o750)
        for n in range(200):
            sftp.open(at(f"d/{n}"), WRITE, 0o600).close()
        with sftp.opendir(at("d")) as folder:
            seen.append(sorted(name for _, name, _ in folder.readdir()))
        for n in range(200):
            sftp.unlink(at(f"d/{n}"))
        sftp.rmdir(at("d"))
    with case("sftp: names and links") as seen:
        sftp.rename(at("file"), at("renamed"))
        sftp.symlink(at("renamed"), at("link"))
        seen += [sftp.realpath(at("link")), oct(sftp.lstat(at("link")).permissions), sftp.stat(at("link")).filesize]
        sftp.unlink(at("link"))
    with case("sftp: space") as seen:
        seen.append(sftp.statvfs(THERE).f_bsize)
    for name, ask in {
        "sftp: no such file": lambda: sftp.stat(at("nothing")),
        "sftp: not allowed": lambda: sftp.open("/etc/not-for-you", WRITE, 0o644),
        "sftp: a folder that is not there": lambda: sftp.opendir(at("nothing")),
    }.items():
        with case(name, raises=True) as seen:
            try:
                ask()
            except Exception as error:
                seen.append(sftp.last_error())
                raise error
    with case("scp: send and receive") as seen:
        told = os.stat(KEY)
        channel = session.scp_send64(at("by-scp"), 0o640, 100_000, told.st_mtime, told.st_atime)
        written(channel, b"s" * 100_000)
        channel.send_eof()
        channel.wait_eof()
        channel.wait_closed()
        channel, info = session.scp_recv2(at("by-scp"))
        data = b""
        while len(data) < info.st_size:
            _, piece = channel.read(info.st_size - len(data))
            data += piece
        seen += [data, info.st_size]
        channel.close()
    with case("scp: no such file", raises=True) as seen:
        session.scp_recv2(at("nothing"))


def connections(session):
    with case("a connection from there") as seen:
        channel = session.direct_tcpip(ECHO[0], int(ECHO[1]))
        seen.append(all_of(channel.read))
    with case("a connection to nothing", raises=True) as seen:
        session.direct_tcpip("127.0.0.1", 1)
    with case("a port there for connections to here") as seen:
        seen.append(session.forward_listen(0) is not None)
    with case("kept alive") as seen:
        channel = session.open_session()
        channel.execute("sleep 3; echo still here")
        # Each of them wants an answer. While they are on, a read that waits gives up when the next is due.
        session.keepalive_config(True, 1)
        for _ in range(3):
            seen.append(session.keepalive_send() >= 0)
            time.sleep(1)
        session.keepalive_config(False, 0)
        seen.append(all_of(channel.read))
        channel.close()


def repositories(session):
    run(session, f"git init -q --bare -b main {THERE}/one.git")
    url = f"ssh://{USER}@{HOST}{THERE}/one.git"

    class Callbacks(pygit2.RemoteCallbacks):
        def credentials(self, url, username, allowed):
            return pygit2.Keypair(username, KEY + ".pub", KEY, "")

        # libgit2 knows no certificates of hosts, and this world's key is no public one.
        def certificate_check(self, certificate, valid, host):
            return True

    with case("libgit2: push") as seen:
        here = pygit2.init_repository("here", initial_head="main")
        for n in range(100):
            with open(f"here/{n}", "w") as file:
                file.write(f"content {n}\n" * 1000)
        here.index.add_all()
        tree = here.index.write_tree()
        who = pygit2.Signature("x", "x@example.org", 1_700_000_000, 0)
        seen.append(str(here.create_commit("refs/heads/main", who, who, "one", tree, [])))
        here.remotes.create("origin", url).push(["refs/heads/main"], callbacks=Callbacks())
    with case("libgit2: clone") as seen:
        cloned = pygit2.clone_repository(url, "cloned", callbacks=Callbacks())
        seen += [str(cloned.head.target), sorted(os.listdir("cloned"))[:3]]
    with case("libgit2: no such repository", raises=True) as seen:
        pygit2.clone_repository(url + ".nothing", "nothing", callbacks=Callbacks())


session = connected()
commands(session)
files(session)
connections(session)
repositories(session)
session.disconnect()
end()
