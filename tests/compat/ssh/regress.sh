# Sourced by OpenSSH's test-exec.sh before each of its scripts, which are not changed.
#
# Those start a server of their own, as the other end of a pipe (`ssh_proxy`) or on a port of 127.0.0.1 (`ssh_config`).
# Here both servers stand behind names, where each connection starts the script's own sshd with the script's own
# configuration as it is at that time (serve.sh), and the clients connect there by themselves.
#
#   HOOP_PROXIED, HOOP_STARTED   the names of the two servers
#   HOOP_KNOWN                   lines of known hosts for hoop
#   HOOP_OUTCOMES                what becomes of each step is written there

# What a script says before each step, and what fails in it.
hoop_told () {
	printf '%s\n' "$*" | tr '\n' ' ' | sed -e "s|$OBJ|OBJ|g" -e 's/ *$//' >>"$HOOP_OUTCOMES"
	echo >>"$HOOP_OUTCOMES"
}
verbose () {
	start_debug_log "$@"
	# How many errors of which kind came of it differs from run to run.
	case "$*" in
	*" errors: mac "*) ;;
	*) hoop_told step "$@" ;;
	esac
}
trace () {
	start_debug_log "$@"
	# These say numbers that differ from run to run.
	case "$*" in
	*rekeying*|"wait for"*|"will use"*|"sshd prints"*|"agent has"*|"expected "*|"waiting for"*) ;;
	*) hoop_told step "$@" ;;
	esac
}
fail () {
	save_debug_log "FAIL: $@"
	RESULT=1
	hoop_told fail "$@"
}
skip () {
	hoop_told skip "$@"
	cleanup
	exit $RESULT
}

# Another port than the server's is one that a script forwards, at its own end. 22 is what it is before it is read.
hoop_point () {
	{
		printf 'Match exec "test %%p != 22 -a %%p != %s"\n\tHostname 127.0.0.1\n\tHostKeyAlias localhost-with-alias\n' "$PORT"
		sed -e '/HostKeyAlias/d' -e '/^proxycommand/d' -e "s/^\([[:space:]]*Hostname[[:space:]]*\)127.0.0.1/\1$2/" "$OBJ/$1"
	} >"$OBJ/$1.new"
	mv "$OBJ/$1.new" "$OBJ/$1"
}
hoop_point ssh_proxy "$HOOP_PROXIED"
hoop_point ssh_config "$HOOP_STARTED"

sed "s/^localhost-with-alias,127.0.0.1,::1 /localhost-with-alias,127.0.0.1,::1,[$HOOP_PROXIED]:$PORT,[$HOOP_STARTED]:$PORT /" \
	"$OBJ/known_hosts" >"$OBJ/known_hosts.new"
cat "$HOOP_KNOWN" >>"$OBJ/known_hosts.new"
mv "$OBJ/known_hosts.new" "$OBJ/known_hosts"

# Nobody here is root, and the account exists in this world alone.
sed -i 's/^\([[:space:]]*UsePAM[[:space:]]*\)yes/\1no/' "$OBJ/sshd_config" "$OBJ/sshd_proxy"

rm -f "$OBJ/started"
start_sshd () {
	${SSHD} -f $OBJ/sshd_config "$@" -t || fatal "sshd_config broken"
	for hoop_word in "$@"; do printf "'%s' " "$hoop_word"; done >"$OBJ/started"
}
stop_sshd () {
	rm -f "$OBJ/started"
}

# `sshd -i` in a script is a connection to a server.
cat >"$OBJ/connected.sh" <<END
#!/bin/sh
for word in "\$@"; do
	[ "\$word" != -i ] || exec $OBJ/netcat $HOOP_PROXIED $PORT
done
exec $SSHD "\$@"
END
chmod +x "$OBJ/connected.sh"
SSHD=$OBJ/connected.sh
# `-D PATH` of sftp and scp runs a server of files without a connection: here it is the subsystem of a server.
for hoop_client in sftp scp; do
	cat >"$OBJ/$hoop_client-there.sh" <<END
#!/bin/sh
server=
count=\$#
while [ \$count -gt 0 ]; do
	count=\$((count - 1))
	word=\$1
	shift
	case \$word in
	-D) server=\$1; shift; count=\$((count - 1)) ;;
	*) set -- "\$@" "\$word" ;;
	esac
done
[ -n "\$server" ] || exec $hoop_client "\$@"
grep -vi '^[[:space:]]*subsystem' $OBJ/sshd_proxy >$OBJ/sshd_proxy.there
echo "Subsystem sftp \$server" >>$OBJ/sshd_proxy.there
mv $OBJ/sshd_proxy.there $OBJ/sshd_proxy
[ $hoop_client = scp ] || set -- "\$@" somehost
exec $hoop_client -S $SSH -F $OBJ/ssh_proxy "\$@"
END
	chmod +x "$OBJ/$hoop_client-there.sh"
done
SFTP=$OBJ/sftp-there.sh
SCP=$OBJ/scp-there.sh
# ssh-keyscan is told the name instead of 127.0.0.1.
cat >"$OBJ/keyscan-there.sh" <<END
#!/bin/sh
count=\$#
while [ \$count -gt 0 ]; do
	count=\$((count - 1))
	word=\$1
	shift
	[ "\$word" != 127.0.0.1 ] || word=$HOOP_STARTED
	set -- "\$@" "\$word"
done
exec $SSHKEYSCAN "\$@"
END
chmod +x "$OBJ/keyscan-there.sh"
SSHKEYSCAN=$OBJ/keyscan-there.sh
# A connection to a server is the program that scp's old protocol was to run without one.
sed -i "s|^\texec \$SCP \"\$@\"|\texec $SSH -F $OBJ/ssh_proxy somehost \"\$arg\"|" "$SRC/scp-ssh-wrapper.sh"

# This one reads and writes five bytes at a time.
case $SCRIPT in
*/sftp.sh) head -c 20000 "$SSHAGENT_BIN" >"$DATA" ;;
esac

# PuTTY knows both by fingerprints, and connects.
if [ "$REGRESS_INTEROP_PUTTY" = yes ]; then
	hoop_keys=$(
		for hoop_type in rsa ed25519; do ${SSHKEYGEN} -lf "$OBJ/ssh-$hoop_type.pub"; done | cut -d ' ' -f 2
		grep -v '^@' "$HOOP_KNOWN" | cut -d ' ' -f 2- >"$OBJ/hoop-key.pub"
		${SSHKEYGEN} -lf "$OBJ/hoop-key.pub" | cut -d ' ' -f 2
	)
	sed -i -e '/^Proxy/d' -e "s/^HostName=.*/HostName=$HOOP_PROXIED/" "$OBJ/.putty/sessions/localhost_proxy"
	echo "SSHManualHostKeys=$(echo $hoop_keys | tr ' ' ,)" >>"$OBJ/.putty/sessions/localhost_proxy"
fi
