# OpenSSH's sftp: a large file, interrupted and resumed, both ways. 200 MB, or 5 GB with --long (10 GB of room).
. "$(dirname "$0")/cases.sh"
LIMIT=3000
size=$((200 << 20))
[ "$LONG" = 1 ] && size=$((5 << 30))
random file "$size"
# The server's copy is the same file, for there is room for two and not for three.
ln file "$THERE/file"
chmod 644 file

# interrupted FILE COMMAND: sftp runs the command, which writes the file, and is ended when a tenth has come.
interrupted() {
	sftp -q -F "$SSH_CONFIG" -b <(echo "$2") "$SSH_HOST" >/dev/null 2>&1 &
	local pid=$!
	for _ in $(seq 3000); do
		[ "$(stat -c %s "$1" 2>/dev/null || echo 0)" -gt $((size / 10)) ] && break
		sleep 0.02
	done
	kill "$pid"
	wait "$pid"
	local held
	held=$(stat -c %s "$1")
	[ "$held" -gt 0 ] && [ "$held" -lt "$size" ] && echo 'a part of it is there'
}
export -f interrupted
export size

check_shell 'a download is interrupted' 0 "interrupted got 'get $THERE/file got'"
check_shell 'the download is resumed' 0 "echo 'reget $THERE/file got' | sftp -q -F '$SSH_CONFIG' -b - $SSH_HOST"
check 'it is whole' 0 cmp file got
rm got
check_shell 'an upload is interrupted' 0 "interrupted '$THERE/sent' 'put file $THERE/sent'"
check_shell 'the upload is resumed' 0 "echo 'reput file $THERE/sent' | sftp -q -F '$SSH_CONFIG' -b - $SSH_HOST"
check 'it is whole there' 0 cmp file "$THERE/sent"
rm "$THERE/sent"
head -c 1000 file >shorter
cp shorter "$THERE/shorter"
head -c 2000 file >longer
check_shell 'what is longer here is not resumed' 1 \
	"echo 'reget $THERE/shorter longer' | sftp -q -F '$SSH_CONFIG' -b - $SSH_HOST"
check 'small requests, one at a time' 0 sftp -q -F "$SSH_CONFIG" -B 1000 -R 1 "$SSH_HOST:$THERE/shorter" one
check 'the small file' 0 cmp shorter one
the_end
