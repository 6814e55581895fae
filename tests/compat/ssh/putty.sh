# PuTTY's plink, pscp and psftp.
. "$(dirname "$0")/cases.sh"
export PUTTYDIR=$WORK/putty
cut -d ' ' -f 2- "$SSH_KNOWN" >host-key
fingerprint=$(ssh-keygen -lf host-key | cut -d ' ' -f 2)
puttygen "$SSH_KEY" -O private -o key.ppk --new-passphrase /dev/null >/dev/null 2>&1
printf 'typed\nand more\n' >typed
random small 300000
random large $((20 << 20))
mkdir -p folder/below
cp small folder/one
cp typed folder/below/two
at=$SSH_ACCOUNT@$SSH_HOST
plain=(-batch -hostkey "$fingerprint" -i key.ppk)
plink() { check "$1" "$2" plink -ssh -no-antispoof "${plain[@]}" "${@:3}"; }
pscp() { check "$1" "$2" pscp -q "${plain[@]}" "${@:3}"; }

plink 'plink: a command' 0 "$at" 'echo out; id -un; pwd'
plink 'plink: exit status' 7 "$at" 'exit 7'
plink 'plink: standard error' 3 "$at" 'echo err >&2; exit 3'
INPUT=typed plink 'plink: standard input' 0 "$at" cat
INPUT=small plink 'plink: a file by standard input' 0 "$at" "cat >$THERE/small"
check 'plink: the file there' 0 cmp small "$THERE/small"
plink 'plink: a file by standard output' 0 "$at" "cat $THERE/small"
plink 'plink: a terminal' 0 -t "$at" 'tty >/dev/null && echo on a terminal'
plink 'plink: compressed' 0 -C "$at" 'head -c 100000 /dev/zero | tr "\0" x'
plink 'plink: a connection from there' 0 -nc "$SSH_ECHO" "$at"
plink 'plink: no such command' 127 "$at" 'no-such-command-at-all'
for by in sftp scp; do
	pscp "pscp by $by: upload" 0 -$by small "$at:$THERE/$by"
	check "pscp by $by: the file there" 0 cmp small "$THERE/$by"
	pscp "pscp by $by: download" 0 -$by "$at:$THERE/$by" "got-$by"
	check "pscp by $by: the file here" 0 cmp small "got-$by"
	pscp "pscp by $by: a large upload" 0 -$by large "$at:$THERE/large-$by"
	check "pscp by $by: the large file" 0 cmp large "$THERE/large-$by"
	mkdir "back-$by"
	plink "pscp by $by: a place for a folder" 0 "$at" "mkdir $THERE/into-$by"
	pscp "pscp by $by: a folder" 0 -$by -r folder "$at:$THERE/into-$by"
	check_shell "pscp by $by: the folder there" 0 "tree '$THERE/into-$by'"
	pscp "pscp by $by: a folder back" 0 -$by -r "$at:$THERE/into-$by/folder" "back-$by"
	check_shell "pscp by $by: the folder here" 0 "tree 'back-$by'"
	pscp "pscp by $by: no such file" 1 -$by "$at:$THERE/nothing" got-nothing
done
cat >commands <<END
pwd
cd $THERE
mkdir d
cd d
put small a
mv a b
chmod 600 b
get b got-psftp
reput small b
reget b got-psftp
del b
cd ..
rmdir d
dir nothing
bye
END
check 'psftp: commands' 0 psftp "${plain[@]}" -b commands -be "$at"
check 'psftp: the file here' 0 cmp small got-psftp
the_end
