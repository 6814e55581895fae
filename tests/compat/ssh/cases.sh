# Sourced by the scripts of clients: one case after the other, each told by what its user sees. Each script runs
# past hoop and through it, and tests/world/compat compares what told.py wrote.
#
# What they are given (tests/world/compat/ssh.rs), on both sides alike but for SSH_KNOWN:
#   SSH_HOST, SSH_ACCOUNT        where they connect, by the original name
#   SSH_KEY, SSH_PASSWORD        what the server lets in; hoop does not look at it
#   SSH_KNOWN                    the plain host key of whoever answers, as known_hosts has it
#   SSH_CONFIG                   a configuration of OpenSSH's programs, strict, which knows both
#   SSH_ECHO                     host:port that only the server reaches; it says one line
#   FLEET_COUNT                  hosts called fleet1.prod.internal and so on, with the same login
#   WORK                         an empty folder here, which is HOME too
#   THERE                        an empty folder of the account's, there. Both hosts are this machine, so
#                                a script may look into it without a client
#   TOOLS                        programs of the Python environment
#   LONG                         1 for full sizes, else 0
#   HOOP_OUTCOMES                the file for told.py's lines
set -u
cd "$WORK"
HERE=$(dirname "$0")

# check NAME STATUS PROGRAM…: standard input is the file $INPUT, if that is set. It starts programs, not functions, so
# a script's function may have the name of the program that it checks.
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

# Clients that read no configuration look for known hosts in HOME.
known_at_home() {
	mkdir -p "$HOME/.ssh"
	cp "$SSH_KNOWN" "$HOME/.ssh/known_hosts"
}

# Commits that are the same in every run, by the settings of nobody.
plain_git() {
	export GIT_SSH_COMMAND="ssh -F $SSH_CONFIG" GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 LC_ALL=C.UTF-8
	export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@example.org GIT_AUTHOR_DATE='2026-01-01T00:00:00Z'
	export GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x@example.org GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
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

# The last of a script: without it the rest is taken for missing.
the_end() {
	/usr/bin/python3 -c 'import sys; sys.path.insert(0, sys.argv[1]); import told; told.end()' "$HERE"
}
