# Agents in containers of real engines: `containers.sh PART PORT`. Each tells what its client saw, as `NAME|…`. The
# image is BusyBox alone; the client is the host's own, by a folder that is mounted. AppArmor's own tools are not here.
set -e
part=$1
outside=$2
root=/var/tmp/image
image=registry.example/team/bot:1
docker="docker run --rm --security-opt apparmor=unconfined --cgroup-parent agents.slice -v /:/host:ro"
podman="podman run --quiet --rm -v /:/host:ro"

client() {
    echo "/bin/busybox chroot /host /bin/bash /srv/agent/asks.sh $1 $outside $2"
}

prepare() {
    mkdir -p $root/bin $root/host
    cp /bin/busybox $root/bin/busybox
    tar -C $root -cf $root.tar .
    systemctl stop engine.socket
    systemctl start docker
    command docker import $root.tar $image >/dev/null
    command podman import --quiet $root.tar $image >/dev/null
    # The first connection from a network namespace tells hoop of it, and is refused.
    cat >/srv/agent/asks.sh <<'EOF'
target='host=db.prod.internal dbname=shop user=agent sslmode=verify-full connect_timeout=30'
export PGSSLROOTCERT=/srv/agent/.postgresql/root.crt
for try in $(seq 40); do
    said=$(psql -XAt "$target" -c "select name, ssn from users where id = 1" 2>&1) || true
    case "$said" in *"onnection refused"*) sleep 0.5 ;; *) break ;; esac
done
echo "$1|$(echo "$said" | head -1)"
(exec 3<>/dev/tcp/10.0.2.2/$2 && echo past hoop >&3) 2>/dev/null || true
sleep ${3:-0}
EOF
}

docker() {
    command $docker --label hoop.agent=docker-bot $image $(client labelled)
    command $docker $image $(client unlabelled)
}

# Podman's conmon is the host's and speaks to systemd: it stays where the command is.
podman() {
    command $podman --cgroup-parent agents.slice --cgroups=no-conmon --name podman-bot $image $(client podman)
    # As Quadlet has it: a unit whose container is below it.
    systemd-run --quiet --wait --pipe --collect --slice=agents.slice --unit=quadlet-bot -p Delegate=yes \
        $podman --cgroups=split $image $(client quadlet)
}

containerd() {
    id=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
    ctr run --rm --rootfs --net-host --runc-systemd-cgroup --cgroup agents.slice:nerdctl:$id \
        --annotation hoop.agent=containerd-bot --mount type=bind,src=/,dst=/host,options=rbind:ro \
        $root $id $(client containerd)
}

# What hoop says of one that runs.
whoami() {
    command $docker --detach --name labelled --label hoop.agent=docker-bot $image $(client again 60) >/dev/null
    sleep 3
    pid=$(command docker inspect --format '{{.State.Pid}}' labelled)
    hoop whoami --pid $pid | grep -E '^(agent|picked by|container) ' | tr -s ' ' | tr '\n' ';'
    command docker rm --force labelled >/dev/null
    systemctl stop docker.service docker.socket containerd
}

$part
