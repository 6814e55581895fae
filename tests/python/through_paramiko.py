"""What paramiko sees of a host: a command with its exit status, and a file by SFTP."""

import json
import sys

import paramiko

host, user, known = sys.argv[1:]
client = paramiko.SSHClient()
client.load_host_keys(known)
client.set_missing_host_key_policy(paramiko.RejectPolicy())
# A password that means nothing: paramiko insists on offering something.
client.connect(host, username=user, password="anything", allow_agent=False, look_for_keys=False)
_, out, err = client.exec_command("echo out; echo err >&2; exit 4")
seen = {"exec": [out.read().decode(), err.read().decode(), out.channel.recv_exit_status()]}
with client.open_sftp() as sftp:
    with sftp.open("paramiko-was-here", "w") as file:
        file.write("by paramiko")
    with sftp.open("paramiko-was-here") as file:
        seen["file"] = file.read().decode()
    seen["size"] = sftp.stat("paramiko-was-here").st_size
    sftp.remove("paramiko-was-here")
client.close()
print(json.dumps(seen))
