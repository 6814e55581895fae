# A site as it may be before hoop comes: a PostgreSQL server with a certificate of the site's authority, data,
# an account that agents use by themselves, and one that will be hoop's.
set -e
umask 022
mkdir -p /etc/site /srv/agent
cd /etc/site
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -batch \
    -subj '/CN=the site' -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -batch \
    -CA ca.pem -CAkey ca.key -subj '/CN=db.prod.internal' \
    -addext subjectAltName=DNS:db.prod.internal -addext extendedKeyUsage=serverAuth \
    -addext basicConstraints=critical,CA:FALSE -keyout db.key -out db.pem 2>/dev/null
chown postgres db.key
chmod 600 db.key ca.key
cluster=$(ls -d /etc/postgresql/*/main)
cat >>"$cluster/postgresql.conf" <<EOF
listen_addresses = '10.77.0.1'
port = 5432
ssl_cert_file = '/etc/site/db.pem'
ssl_key_file = '/etc/site/db.key'
log_connections = on
log_line_prefix = '%m '
max_connections = 300
fsync = off
EOF
cat >"$cluster/pg_hba.conf" <<EOF
local all postgres peer
local all all scram-sha-256
host all agent 10.0.0.0/8 trust
host all agent 172.16.0.0/12 trust
host all hoop_orders 10.0.0.0/8 scram-sha-256
host all hoop_orders 172.16.0.0/12 scram-sha-256
EOF
systemctl restart postgresql
for try in $(seq 60); do
    runuser -u postgres -- psql -qXc 'select 1' >/dev/null 2>&1 && break
    sleep 1
done
runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 <<'EOF'
create role agent login;
create role hoop_orders login password 'correct horse battery staple';
create database shop;
\c shop
create table users (id int primary key, name text, ssn text);
insert into users values (1, 'Ada Byron', '078-05-1120'), (2, 'Alan Mathison', '457-55-5462');
create table orders (id int primary key, item text);
insert into orders values (1, 'analytical engine');
grant select on users, orders to agent;
alter table users owner to hoop_orders;
alter table orders owner to hoop_orders;
grant select on users, orders to agent;
EOF
# The way to the issuer.
cat >/etc/systemd/system/issuer.socket <<EOF
[Socket]
ListenStream=127.0.0.1:$ISSUER
[Install]
WantedBy=sockets.target
EOF
cat >/etc/systemd/system/issuer.service <<EOF
[Service]
ExecStart=/lib/systemd/systemd-socket-proxyd 10.0.2.2:$ISSUER
EOF
# The agent, as a unit that works all day.
cat >/etc/systemd/system/billing-bot.service <<EOF
[Unit]
After=network.target
[Service]
ExecStart=/usr/bin/python3 /srv/agent/loop.py
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
EOF
# Ways out that agents must not have.
echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range
mkdir -p /etc/cron.d
cat >/etc/systemd/system/engine.socket <<EOF
[Socket]
ListenStream=/run/docker.sock
SocketMode=0666
[Install]
WantedBy=sockets.target
EOF
cat >/etc/systemd/system/engine.service <<EOF
[Service]
ExecStart=/bin/sleep infinity
EOF
systemctl daemon-reload
systemctl enable --now --quiet issuer.socket engine.socket
