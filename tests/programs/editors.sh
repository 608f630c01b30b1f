# SPDX-License-Identifier: Apache-2.0
# vim with swap file and backup, nano on a terminal, ssh-keygen.
export TERM=xterm HOME=$PWD/home; mkdir home
vim.tiny -u NONE -N -es documents/book <<'END'
set backup writebackup backupcopy=no backupdir=. backupskip=
%s/line/LINE/
1d
$a
last line
.
wq
END
head -1 documents/book; tail -1 documents/book; head -1 documents/book~; ls -A documents
vim.tiny -u NONE -N -es -c 'set backup backupcopy=yes backupext=.kept backupdir=. backupskip=' -c '1s/$/ end/' -c 'w' -c 'e code/extra1.c' -c 'w' -c 'qa' code/answer.c
tail -1 code/answer.c; cat code/answer.c.kept | tail -1; stat -c '%a %h' code/answer.c
vim.tiny -u NONE -N -es -c 'w! >>documents/old/list' -c 'w! copy' -c 'saveas saved' -c 'r !echo from a shell' -c 'w' -c 'qa!' script || echo "status $?"
cat copy saved documents/old/list; stat -c %a saved
# A swap file left by one who was killed, and recovered from.
away=$(mktemp -d /tmp/libservices-programs.XXXXXX); trap 'rm -rf "$away"' EXIT; mkfifo "$away/keys"; exec 9<>"$away/keys"
printf '#!/bin/sh\necho $$ >"$HOME/pid"\nexec vim.tiny -u NONE -N -c "set updatecount=1 updatetime=10" large2\n' >"$HOME/edit"
timeout 60 script -qec "sh $HOME/edit" /dev/null <&9 >/dev/null 2>&1 &
printf 'isome text' >&9; for i in {1..200}; do [ -e .large2.swp ] && break; sleep 0.05; done
printf '\033' >&9; for i in {1..200}; do grep -qa 'some text' .large2.swp && break; sleep 0.05; done
kill -9 "$(cat "$HOME/pid")"; sleep 0.2; kill $! 2>/dev/null; wait $! 2>/dev/null; exec 9>&-
[ -e .large2.swp ] || { echo 'no swap file'; exit 1; }; vim.tiny -u NONE -N -es -r large2 -c 'w! recovered' -c 'qa!' || true; cat recovered; rm -f .large2.swp
drive() {  # drive COMMAND [TEXT KEYS]...: when the terminal shows the text, the keys are pressed
  local program i
  : >"$away/screen"; exec 9<>"$away/keys"
  timeout 60 script -qfec "$1" "$away/screen" <&9 >/dev/null & program=$!; shift
  while [ $# != 0 ]; do
    for i in {1..1000}; do grep -qa "$1" "$away/screen" && break; sleep 0.02; done
    grep -qa "$1" "$away/screen" || { echo "the terminal does not show '$1'"; exit 1; }
    printf '%b' "$2" >&9; shift 2
  done
  wait $program; exec 9>&-
}
drive 'nano -I -B documents/new' 'New File' 'typed\r\017' 'Name to Write' '\r' 'Wrote' '\030'; cat documents/new; grep -qx typed documents/new || exit 1
drive 'nano -I -B -G documents/old/list' 'Read [0-9]' '\013first\r\017' 'Name to Write' '\r' 'Wrote' '\030'
cat documents/old/list; cat documents/old/list~ | head -1; ls -A documents/old
ssh-keygen -q -t ed25519 -N '' -C c -f key; stat -c '%a %n' key key.pub
ssh-keygen -y -f key | cmp - <(cut -d' ' -f1-2 key.pub | sed 's/$/ c/') && echo pair
ssh-keygen -q -p -P '' -N secret -f key; ssh-keygen -y -P wrong -f key 2>&1 | cut -d: -f1
echo y | ssh-keygen -q -t rsa -b 2048 -N '' -f key >/dev/null; ssh-keygen -l -f key.pub | cut -d' ' -f1
ssh-keygen -q -s key -I id -n root key.pub; ls key*; ssh-keygen -Y sign -q -f key -n file script
ssh-keygen -q -H -f home/hosts 2>/dev/null || true
echo 'host ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJh0' >hosts; ssh-keygen -q -R host -f hosts 2>&1 | wc -l
rm -rf key* home script.sig hosts*
