# git over ssh.
. "$(dirname "$0")/cases.sh"
plain_git
at=$SSH_HOST:$THERE/one.git
check 'a repository there' 0 ssh -F "$SSH_CONFIG" "$SSH_HOST" "git init -q --bare -b main $THERE/one.git"
git init -q -b main here
for n in $(seq 300); do echo "content $n" >"here/$n"; done
random here/large $((10 << 20))
git -C here add .
git -C here commit -q -m one
check 'push' 0 git -C here push -q "$at" main
check 'list' 0 git ls-remote "$at"
check 'clone' 0 git clone -q "$at" cloned
check_shell 'the clone' 0 'git -C cloned rev-parse HEAD && git -C cloned fsck --strict 2>&1 && rm -rf cloned/.git && tree cloned'
check 'clone by an address' 0 git clone -q "ssh://$SSH_HOST$THERE/one.git" by-address
check 'clone of the last commit' 0 git clone -q --depth 1 "$at" shallow
echo more >here/more
git -C here add .
git -C here commit -q -m two
check 'push a branch' 0 git -C here push -q "$at" HEAD:refs/heads/other
check 'push a tag' 0 bash -c "git -C here tag t && git -C here push -q '$at' t"
check 'fetch' 0 git -C by-address fetch -q origin other
check 'what was fetched' 0 git -C by-address rev-parse FETCH_HEAD
check 'delete a branch' 0 git -C here push -q "$at" :other
git -C here commit -q --amend -m rewritten
git -C here reset -q --hard HEAD~1
echo elsewhere >here/elsewhere
git -C here add .
git -C here commit -q --amend -m elsewhere
check 'a push that the server rejects' 1 git -C here push -q "$at" main
check 'a push by force' 0 git -C here push -q --force "$at" main
check 'archive' 0 bash -c "git archive --remote='$at' main 1 2 | tar t"
check 'no such repository' 128 git clone -q "$SSH_HOST:$THERE/nothing.git" nothing
the_end
