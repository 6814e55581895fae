"""What paramiko does with a server: commands, terminals, files, connections, keys anew."""

import os
import socket
import stat
import threading

import paramiko
from told import case, end

HOST, USER = os.environ["SSH_HOST"], os.environ["SSH_ACCOUNT"]
THERE = os.environ["THERE"]
ECHO = os.environ["SSH_ECHO"].rsplit(":", 1)


def connected(**more):
    client = paramiko.SSHClient()
    client.load_host_keys(os.environ["SSH_KNOWN"])
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    known = {"key_filename": os.environ["SSH_KEY"], **more}
    client.connect(HOST, username=USER, allow_agent=False, look_for_keys=False, **known)
    return client


def run(client, command, stdin=b"", **more):
    into, out, err = client.exec_command(command, timeout=60, **more)
    into.write(stdin)
    into.channel.shutdown_write()
    # Both at once: a server that fills one while the other is read would wait for ever.
    errors = []
    reader = threading.Thread(target=lambda: errors.append(err.read()))
    reader.start()
    printed = out.read()
    reader.join()
    return [out.channel.recv_exit_status(), printed, errors[0]]


def until_the_end(channel):
    data = b""
    while piece := channel.recv(4096):
        data += piece
    return data


def commands(client):
    with case("a command") as seen:
        seen += run(client, "echo out; echo err >&2; exit 4")
    with case("standard input") as seen:
        seen += run(client, "tr a-z A-Z", b"typed\n")
    with case("a large output") as seen:
        seen += run(client, "head -c 20000000 /dev/zero | tr '\\0' x")
    with case("a large input") as seen:
        seen += run(client, "sha256sum", b"y" * 20_000_000)
    with case("output and errors at once") as seen:
        seen += run(client, "for n in $(seq 2000); do echo out $n; echo err $n >&2; done")
    with case("ended by a signal") as seen:
        seen += run(client, "kill -TERM $$")
    with case("no such command") as seen:
        seen += run(client, "no-such-command-at-all")
    with case("a variable that hoop knows") as seen:
        seen += run(client, "echo $LC_ALL", environment={"LC_ALL": "C.UTF-8"})
    with case("errors within the output") as seen:
        channel = client.get_transport().open_session()
        channel.set_combine_stderr(True)
        channel.exec_command("echo one; echo two >&2; sleep 0.2; echo three")
        seen.append(sorted(until_the_end(channel).split()))
    with case("many channels at once") as seen:
        results = {}

        def one(n):
            results[n] = run(client, f"sleep 0.2; echo channel {n}; exit {n}")

        threads = [threading.Thread(target=one, args=(n,)) for n in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen.append(sorted(results.items()))


def terminals(client):
    with case("a terminal") as seen:
        channel = client.get_transport().open_session()
        channel.get_pty(term="vt100", width=100, height=40)
        channel.exec_command("stty size; echo $TERM; tty >/dev/null && echo on a terminal")
        seen += [until_the_end(channel), channel.recv_exit_status()]
    with case("another size") as seen:
        channel = client.get_transport().open_session()
        channel.get_pty(width=80, height=24)
        channel.exec_command("echo ready; read line; stty size")
        seen.append(channel.recv(100))
        channel.resize_pty(width=132, height=50)
        channel.send(b"\n")
        seen += [until_the_end(channel), channel.recv_exit_status()]
    with case("an interrupt by its key") as seen:
        channel = client.get_transport().open_session()
        channel.get_pty()
        channel.exec_command("trap 'echo interrupted; exit 9' INT; echo ready; sleep 20 & wait")
        channel.recv(100)
        channel.send(b"\x03")
        seen += [until_the_end(channel), channel.recv_exit_status()]
    with case("a shell") as seen:
        channel = client.invoke_shell()
        channel.send(b"stty -echo; PS1=; echo begin-$((1 + 1))\n")
        channel.send(b"echo shell-$((40 + 2))\nexit 5\n")
        text = until_the_end(channel).decode()
        seen += ["shell-42" in text, channel.recv_exit_status()]
    with case("a subsystem that is not there", raises=True) as seen:
        channel = client.get_transport().open_session()
        channel.invoke_subsystem("nothing")
        seen.append(until_the_end(channel))


def files(client):
    sftp = client.open_sftp()
    sftp.chdir(THERE)
    content = b"by paramiko\n" * 100_000
    with case("sftp: write, read, append, seek") as seen:
        with sftp.open("file", "wb") as file:
            file.set_pipelined(True)
            file.write(content)
        with sftp.open("file", "ab") as file:
            file.write(b"end")
        with sftp.open("file", "r+b") as file:
            file.seek(10)
            file.write(b"HERE")
            file.seek(0)
            seen.append(file.read(30))
            file.truncate(600_000)
        with sftp.open("file", "rb") as file:
            file.prefetch()
            seen += [file.read(), file.stat().st_size]
    with case("sftp: vectors") as seen:
        with sftp.open("file", "rb") as file:
            seen += list(file.readv([(0, 10), (100, 20), (599_990, 100)]))
    with case("sftp: exclusive", raises=True) as seen:
        sftp.open("file", "x").close()
    with case("sftp: put and get") as seen:
        with open("local", "wb") as file:
            file.write(content)
        seen.append(sftp.put("local", "put").st_size)
        sftp.get("put", "got")
        with open("got", "rb") as file:
            seen.append(file.read() == content)
    with case("sftp: attributes") as seen:
        sftp.chmod("file", 0o640)
        sftp.truncate("file", 1000)
        sftp.utime("file", (1_600_000_000, 1_600_000_001))
        told = sftp.stat("file")
        seen += [stat.filemode(told.st_mode), told.st_size, told.st_mtime, told.st_atime]
    with case("sftp: not one's own", raises=True) as seen:
        sftp.chown("file", 0, 0)
    with case("sftp: folders") as seen:
        sftp.mkdir("d", 0o750)
        sftp.mkdir("d/below")
        for n in range(300):
            sftp.open(f"d/{n}", "w").close()
        seen += [sorted(sftp.listdir("d")), stat.filemode(sftp.stat("d").st_mode)]
        seen.append(sorted(entry.filename for entry in sftp.listdir_iter("d")))
        for n in range(300):
            sftp.remove(f"d/{n}")
        sftp.rmdir("d/below")
        sftp.rmdir("d")
    with case("sftp: links") as seen:
        sftp.symlink("file", "link")
        seen += [sftp.readlink("link"), stat.S_ISLNK(sftp.lstat("link").st_mode), sftp.stat("link").st_size]
        sftp.remove("link")
    with case("sftp: names") as seen:
        sftp.rename("put", "renamed")
        seen += [sftp.normalize("renamed"), sftp.normalize(".."), sftp.getcwd()]
        sftp.posix_rename("renamed", "file")
        seen.append(sorted(sftp.listdir(".")))
    with case("sftp: letters of all kinds") as seen:
        for name in ("ä ö ü", "日本", "a'b\"c", "new\nline", "-dash"):
            sftp.open(name, "w").close()
        seen.append(sorted(sftp.listdir(".")))
    for name, ask in {
        "sftp: no such file": lambda: sftp.stat("nothing"),
        "sftp: read what is not there": lambda: sftp.open("nothing"),
        "sftp: remove what is not there": lambda: sftp.remove("nothing"),
        "sftp: a folder that is not empty": lambda: sftp.rmdir(THERE),
        "sftp: a folder that is there": lambda: sftp.mkdir(THERE),
        "sftp: not allowed": lambda: sftp.open("/etc/not-for-you", "w"),
        "sftp: not to be read": lambda: sftp.open("/etc/shadow"),
        "sftp: rename over another": lambda: sftp.rename("file", "-dash"),
    }.items():
        with case(name, raises=True) as seen:
            seen.append(ask())
    with case("sftp: a second one beside it") as seen:
        other = client.open_sftp()
        seen.append(sorted(other.listdir(THERE))[:3])
        other.close()
    sftp.close()


def connections(client):
    transport = client.get_transport()
    with case("a connection from there") as seen:
        channel = transport.open_channel("direct-tcpip", (ECHO[0], int(ECHO[1])), ("127.0.0.1", 1))
        seen.append(until_the_end(channel))
    with case("a connection to nothing", raises=True) as seen:
        transport.open_channel("direct-tcpip", ("127.0.0.1", 1), ("127.0.0.1", 1))
    with case("a port there for connections to here") as seen:
        seen.append(transport.request_port_forward("127.0.0.1", 0) > 0)
    with case("the agent forwarded") as seen:
        channel = transport.open_session()
        seen.append(channel.request_forward_agent(lambda _: None))
        channel.close()
    with case("X11 forwarded", raises=True) as seen:
        channel = transport.open_session()
        channel.request_x11(handler=lambda *_: None)
        channel.close()
    with case("a channel of no known kind", raises=True) as seen:
        transport.open_channel("nothing@example.org")


def keys_anew():
    with case("keys made anew by the client's count of bytes") as seen:
        client = connected()
        packets = client.get_transport().packetizer
        packets.REKEY_BYTES = 1 << 20
        seen += run(client, "head -c 10000000 /dev/zero | tr '\\0' z")
        seen += run(client, "sha256sum", b"z" * 10_000_000)
        client.close()
    with case("keys made anew on demand, while a command runs") as seen:
        client = connected()
        _, out, _ = client.exec_command("for n in 1 2 3; do echo $n; sleep 0.5; done")
        client.get_transport().renegotiate_keys()
        seen.append(out.read())
        client.close()


def logins():
    with case("login: a password") as seen:
        seen += run(connected(key_filename=None, password=os.environ["SSH_PASSWORD"]), "id -un")
    with case("login: keyboard-interactive", raises=True) as seen:
        transport = paramiko.Transport(socket.create_connection((HOST, 22)))
        transport.start_client()
        answers = lambda title, words, prompts: [os.environ["SSH_PASSWORD"] for _ in prompts]  # noqa: E731
        transport.auth_interactive(USER, answers)
        seen.append(transport.is_authenticated())
        transport.close()
    with case("login: a wrong password", raises=True) as seen:
        seen += run(connected(key_filename=None, password="not this one"), "id -un")
    with case("login: another account", raises=True) as seen:
        client = paramiko.SSHClient()
        client.load_host_keys(os.environ["SSH_KNOWN"])
        client.connect(HOST, username="nobody-at-all", password="x", allow_agent=False, look_for_keys=False)
        seen += run(client, "id -un")
    with case("kept alive") as seen:
        client = connected()
        client.get_transport().set_keepalive(1)
        seen += run(client, "sleep 4; echo still here")
        client.close()
    with case("compressed") as seen:
        client = connected(compress=True)
        seen += run(client, "head -c 1000000 /dev/zero | tr '\\0' c")
        client.close()


client = connected()
commands(client)
terminals(client)
files(client)
connections(client)
client.close()
keys_anew()
logins()
end()
