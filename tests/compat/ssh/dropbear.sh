# Dropbear's client.
. "$(dirname "$0")/cases.sh"
known_at_home
dropbearconvert openssh dropbear "$SSH_KEY" key >/dev/null 2>&1
printf 'typed\nand more\n' >typed
random small 300000
run() { check "$1" "$2" dbclient -i key "${@:3}"; }
at=$SSH_ACCOUNT@$SSH_HOST

run 'a command' 0 -T "$at" 'echo out; id -un; pwd'
run 'exit status' 7 -T "$at" 'exit 7'
run 'standard error' 3 -T "$at" 'echo err >&2; exit 3'
run 'ended by a signal' 0 -T "$at" 'kill -TERM $$'
INPUT=typed run 'standard input' 0 -T "$at" 'cat; wc -c </dev/null'
INPUT=small run 'a file by standard input' 0 -T "$at" "cat >$THERE/small"
check 'the file there' 0 cmp small "$THERE/small"
run 'a file by standard output' 0 -T "$at" "cat $THERE/small"
# sftp and scp give options of OpenSSH, which dbclient does not have.
cat >by-dbclient <<END
#!/bin/bash
subsystem=
while [ \$# -gt 0 ]; do
	case \$1 in
	-l) shift 2 ;;
	-s) subsystem=-s; shift ;;
	--) shift; break ;;
	-*) shift ;;
	*) break ;;
	esac
done
exec dbclient -i "$WORK/key" -T \$subsystem "$at" "\${@:2}"
END
chmod +x by-dbclient
check_shell 'sftp by it' 0 "printf 'put small $THERE/by-sftp\nls -1 $THERE\n' | sftp -q -b - -S '$WORK/by-dbclient' $at"
check 'the file by sftp' 0 cmp small "$THERE/by-sftp"
check 'scp by it' 0 scp -q -O -S "$WORK/by-dbclient" small "$at:$THERE/by-scp"
check 'the file by scp' 0 cmp small "$THERE/by-scp"
run 'a connection from there' 0 -B "$SSH_ECHO" "$at"
run 'a connection to nothing' 0 -B 127.0.0.1:1 "$at"
run 'no such command' 127 -T "$at" 'no-such-command-at-all'
the_end
