# curl over libssh2: SFTP and scp by address.
. "$(dirname "$0")/cases.sh"
known_at_home
random small 20000
random large $((30 << 20))
url=sftp://$SSH_HOST$THERE
scp=scp://$SSH_HOST$THERE
run() { check "$1" "$2" curl -sS -u "$SSH_ACCOUNT:" --key "$SSH_KEY" --pubkey "$SSH_KEY.pub" "${@:3}"; }

run 'sftp: upload' 0 -T small "$url/small"
run 'sftp: download' 0 -o got "$url/small"
check 'sftp: what came is what went' 0 cmp small got
run 'sftp: a large upload' 0 -T large "$url/large"
run 'sftp: a large download' 0 -o got-large "$url/large"
check 'sftp: the large file' 0 cmp large got-large
run 'sftp: a range' 0 -r 100-199 "$url/small"
head -c 7000 small >resumed
run 'sftp: a download resumed' 0 -C 7000 -o resumed "$url/small"
check 'sftp: the resumed file' 0 cmp small resumed
run 'sftp: append' 0 -a -T small "$url/small"
check 'sftp: both parts' 0 sha256sum "$THERE/small"
run 'sftp: folders on the way' 0 --ftp-create-dirs -T small "$url/a/b/c"
run 'sftp: names of a folder' 0 -l "$url/a/"
run 'sftp: commands' 0 -o /dev/null -Q "mkdir $THERE/d" -Q "rename $THERE/large $THERE/d/moved" -Q "chmod 600 $THERE/d/moved" \
	-Q "symlink $THERE/d/moved $THERE/link" -Q "rm $THERE/link" -Q "rm $THERE/d/moved" -Q "rmdir $THERE/d" -Q pwd "$url/small"
run 'sftp: space' 0 -o /dev/null -Q "statvfs $THERE" "$url/small"
run 'sftp: relative to home' 78 -o /dev/null "sftp://$SSH_HOST/~/nothing-here"
run 'sftp: no such file' 78 "$url/nothing"
run 'sftp: not allowed' 9 -T small "sftp://$SSH_HOST/etc/not-for-you"
run 'scp: upload' 0 -T small "$scp/by-scp"
run 'scp: download' 0 -o by-scp "$scp/by-scp"
check 'scp: what came is what went' 0 cmp small by-scp
run 'scp: a large upload' 0 -T large "$scp/large-by-scp"
check 'scp: the large file' 0 cmp large "$THERE/large-by-scp"
run 'scp: no such file' 78 "$scp/nothing"
check 'a password' 0 curl -sS -u "$SSH_ACCOUNT:$SSH_PASSWORD" -o by-password "$url/small"
check 'a login without a key or a password' 67 curl -sS -u "$SSH_ACCOUNT:" -o by-nothing "$url/small"
the_end
