# cargo's built-in git, which is libgit2 over libssh2: a dependency that is fetched by SSH.
. "$(dirname "$0")/cases.sh"
known_at_home
plain_git
# The toolchain's own cargo: rustup's would look for its settings in HOME.
export PATH=$(dirname "$CARGO"):$PATH
export CARGO_HOME=$WORK/cargo CARGO_NET_GIT_FETCH_WITH_CLI=false CARGO_NET_RETRY=0 CARGO_TERM_PROGRESS_WHEN=never
# It takes keys of an agent alone.
eval "$(ssh-agent -s)" >/dev/null
trap 'kill "$SSH_AGENT_PID"' EXIT
ssh-add -q "$SSH_KEY"

# package FOLDER LINES: one without code, with more lines in its manifest.
package() {
	mkdir -p "$1/src"
	touch "$1/src/lib.rs"
	printf '[package]\nname = "%s"\nversion = "0.1.0"\nedition = "2021"\n\n%s\n' "$1" "$2" >"$1/Cargo.toml"
}
package one ''
git init -q -b main one
git -C one add .
git -C one commit -q -m one
check 'a repository there' 0 ssh -F "$SSH_CONFIG" "$SSH_HOST" "git init -q --bare -b main $THERE/one.git"
check 'push' 0 git -C one push -q "$SSH_HOST:$THERE/one.git" main
url=ssh://$SSH_ACCOUNT@$SSH_HOST$THERE
package two "[dependencies]
one = { git = \"$url/one.git\" }"
package three "[dependencies]
nothing = { git = \"$url/nothing.git\" }"
check 'a dependency' 0 cargo generate-lockfile --manifest-path two/Cargo.toml
check 'what was locked' 0 grep 'source = ' two/Cargo.lock
check 'no such repository' 101 cargo generate-lockfile --manifest-path three/Cargo.toml
the_end
