# ansible with 20 forks over 20 host names.
. "$(dirname "$0")/cases.sh"
LIMIT=600
for n in $(seq "$FLEET_COUNT"); do echo "fleet$n.prod.internal"; done >hosts
export ANSIBLE_LOCAL_TEMP=$WORK/local ANSIBLE_SSH_CONTROL_PATH_DIR=$WORK/control ANSIBLE_NOCOLOR=1 LC_ALL=C.UTF-8
export ANSIBLE_SSH_ARGS="-F $SSH_CONFIG -o ControlMaster=auto -o ControlPersist=5s"
export ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3
echo 'by ansible' >file

# ansible NAME STATUS MODULE…: hosts answer in any order, with names of temporary files and times, which differ from run to run.
ansible() {
	local name=$1 expected=$2
	shift 2
	local quoted
	quoted=$(printf ' %q' "$TOOLS/python" -m ansible adhoc all -i hosts -f 20 -o "$@")
	check_shell "$name" "$expected" "set -o pipefail; $quoted 2>&1 | sed -E 's/ansible-tmp-[^/\"]*/TMP/g; s/\"(start|end|delta|mtime|atime|ctime|inode|uid|gid)\": [^,}]*//g' | LC_ALL=C sort"
}
ansible 'ping' 0 -m ping
ansible 'a command' 0 -m command -a 'echo one two'
ansible 'copy' 0 -m copy -a "src=$WORK/file dest=$THERE/of-{{ inventory_hostname }} mode=0640"
check_shell 'the copies' 0 "tree '$THERE'"
ansible 'fetch' 0 -m fetch -a "src=$THERE/of-{{ inventory_hostname }} dest=$WORK/fetched/"
check_shell 'what was fetched' 0 'tree fetched'
ansible 'a command that fails' 2 -m command -a 'false'
export ANSIBLE_PIPELINING=1
ansible 'pipelined' 0 -m command -a 'echo {{ inventory_hostname }}'
export ANSIBLE_PIPELINING=0 ANSIBLE_SSH_TRANSFER_METHOD=scp
ansible 'copy by scp' 0 -m copy -a "src=$WORK/file dest=$THERE/by-scp-{{ inventory_hostname }}"
check_shell 'all the copies' 0 "tree '$THERE'"
the_end
