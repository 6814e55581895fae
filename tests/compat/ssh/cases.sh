# Sourced by the scripts of this folder: one case after the other, each told by what its user sees.
#
# What they are given, on both sides alike but for SSH_KNOWN:
#   SSH_HOST, SSH_ACCOUNT        where they connect, by the original name
#   SSH_KEY, SSH_PASSWORD        what the server lets in; hoop does not look at it
#   SSH_KNOWN                    the plain host key of whoever answers, as known_hosts has it
#   SSH_CONFIG                   a configuration of OpenSSH's programs, strict, which knows both
#   WORK                         an empty folder here, which is HOME too
#   THERE                        an empty folder of the account's, there
#   LONG                         1 for full sizes
set -u
cd "$WORK"
HERE=$(dirname "$0")

# check NAME STATUS COMMAND…: standard input is the file $INPUT, if that is set.
check() {
	local name=$1 expected=$2 status
	shift 2
	printf '{"test": "%s", "begins": true}\n' "$name" >>"$HOOP_OUTCOMES"
	timeout -k 5 "${LIMIT:-120}" "$@" <"${INPUT:-/dev/null}" >"$WORK/.out" 2>"$WORK/.err"
	status=$?
	/usr/bin/python3 "$HERE/told.py" "$name" "$expected" "$status" "$WORK/.out" "$WORK/.err"
}

# The same for what needs a shell.
check_shell() {
	check "$1" "$2" bash -c "$3"
}

# random FILE BYTES: the same bytes whenever the length is the same.
random() {
	head -c "$2" /dev/zero | openssl enc -aes-128-ctr -nosalt -pass "pass:$2" -md sha256 >"$1" 2>/dev/null
}

# tree FOLDER: one digest over every name, kind and content below it.
tree() {
	(cd "$1" && find . -printf '%y %p %l\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum) | sha256sum
}
export -f tree

the_end() {
	/usr/bin/python3 -c 'import sys; sys.path.insert(0, sys.argv[1]); import told; told.end()' "$HERE"
}
