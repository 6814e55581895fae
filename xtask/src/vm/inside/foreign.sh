#!/bin/busybox sh
# The first process of a machine with nothing but a kernel, hoop's program and what it is linked to. What it
# prints is looked at from outside; each part begins with its name.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
$B mount -t securityfs security /sys/kernel/security
$B mount -t cgroup2 cgroup /sys/fs/cgroup
$B mount -t bpf bpf /sys/fs/bpf
$B ip link set lo up
printf 'root:x:0:0::/root:/bin/sh\nhoop:x:999:999::/:/bin/false\n' >/etc/passwd
printf 'hoop:x:999:\n' >/etc/group
$B mkdir -p /sys/fs/cgroup/agents.slice/bot /etc/hoop
printf '[[agent]]\nname = "bot"\ncgroup = "agents.slice/bot"\nmode = "discover"\n
[[resource]]\nname = "orders"\nprotocol = "postgres"\nhosts = ["db.prod.internal"]\nlogin = { user = "a", password = { file = "/etc/hoop/p" } }\n
[policy]\nuse = ["read-only"]\n' >/etc/hoop/hoop.toml
printf secret >/etc/hoop/p
$B chmod 600 /etc/hoop/p

# As an agent: from inside its cgroup.
inside() {
    (
        echo 0 >/sys/fs/cgroup/agents.slice/bot/cgroup.procs
        "$@" 2>&1
    )
}

# Whether a server on loopback hears it.
connect() {
    $B nc -l -p 7000 -e $B echo heard &
    $B sleep 1
    echo hello | "$@" $B nc -w 3 127.0.0.1 7000 2>&1
    $B kill $! 2>/dev/null
}

echo "== kernel"
$B uname -rm
echo "== doctor"
hoop doctor --offline | $B grep ' kernel\.'
echo "== check"
hoop check
echo "== policy"
hoop policy test --agent bot --resource orders --sql 'DROP TABLE users'
echo "ends with $?"
echo "== load"
hoop capture load --cgroup agents.slice
echo "== outside"
connect
echo "== inside"
connect inside
echo "== ping"
inside $B ping -c 1 -W 2 127.0.0.1
echo "== unload"
hoop capture unload --cgroup agents.slice
echo "== inside, unloaded"
connect inside
echo "== end"
$B poweroff -f
