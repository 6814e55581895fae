# rsync of many small files: 5,000, or 100,000 with --long.
. "$(dirname "$0")/cases.sh"
LIMIT=3000
count=5000
[ "$LONG" = 1 ] && count=100000
ssh="ssh -F $SSH_CONFIG"
/usr/bin/python3 - "$count" <<'END'
import os, sys
for n in range(int(sys.argv[1])):
    if n % 500 == 0:
        folder = f"files/{n // 500}"
        os.makedirs(folder)
    with open(f"{folder}/{n}", "w") as file:
        file.write(f"content {n}\n" * (n % 40))
    os.utime(f"{folder}/{n}", (1_700_000_000, 1_700_000_000 + n))
os.symlink("0/1", "files/link")
END
tree files >expected
run() { check "$1" "$2" rsync -e "$ssh" "${@:3}"; }

run 'all of them up' 0 -a files/ "$SSH_HOST:$THERE/copy/"
check_shell 'all of them there' 0 "tree '$THERE/copy' | cmp - expected"
run 'again: nothing to do' 0 -a -i files/ "$SSH_HOST:$THERE/copy/"
run 'all of them back' 0 -a "$SSH_HOST:$THERE/copy/" back/
check_shell 'all of them here' 0 'tree back | cmp - expected'
rm -rf files/1
echo changed >files/0/3
touch -d @1700100000 files/0/3
run 'what changed, and what went' 0 -a -i --delete files/ "$SSH_HOST:$THERE/copy/"
check_shell 'the same again' 0 "cmp <(tree files) <(tree '$THERE/copy')"
run 'compared by content' 0 -a -i -c --dry-run files/ "$SSH_HOST:$THERE/copy/"
run 'compressed' 0 -az "$SSH_HOST:$THERE/copy/0/" compressed/
check_shell 'the compressed ones' 0 "cmp <(tree files/0) <(tree compressed)"
random large $((20 << 20))
run 'a large file' 0 --inplace large "$SSH_HOST:$THERE/large"
printf changed | dd of=large bs=1 seek=1000000 conv=notrunc status=none
run 'what changed of it' 0 --inplace --no-whole-file --ignore-times large "$SSH_HOST:$THERE/large"
check 'the large file' 0 cmp large "$THERE/large"
run 'list' 0 --list-only "$SSH_HOST:$THERE/copy/0/3"
run 'no such folder' 23 -a "$SSH_HOST:$THERE/nothing/" nothing/
the_end
