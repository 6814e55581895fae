# What OpenSSH's scripts would start, started for each connection: sshd with the configuration as it is now.
# The socket is standard input and output. `serve.sh FOLDER proxy|config`
folder=$1
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
case $2 in
proxy) exec sh "$folder/sshd-log-wrapper.sh" "$folder/sshd.log" /usr/sbin/sshd -i -f "$folder/sshd_proxy" ;;
config)
	# Nobody listens before a script starts its server.
	[ -f "$folder/started" ] || exit 1
	eval "set -- $(cat "$folder/started")"
	exec sh "$folder/sshd-log-wrapper.sh" "$folder/sshd.log" /usr/sbin/sshd -i -f "$folder/sshd_config" "$@"
	;;
esac
