#!/bin/busybox sh
# The first process of a guest that attaches devices with store-nbd. Talks to the test in lines that start with "@@":
#   @@ ok TITLE, @@ not ok TITLE   a check
#   @@ restart                     answer a line when store-nbd was killed and started once
#   @@ ready                       the writer writes; answer a line when the restarts are over
#   @@ synced COUNT                files the writer has synced (guest-writer.ts)
#   @@ done                        everything was run
# Kernel command line: store_port=PORT of store-nbd on the host.

export PATH=/bin:/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /run /programs
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo
dmesg -n 1

PORT=$(sed 's/.*store_port=\([0-9]*\).*/\1/' /proc/cmdline)
URI=nbd://10.0.2.2:$PORT/vm1

check() {
  title=$1
  shift
  if "$@" >/tmp/output 2>&1; then
    echo "@@ ok $title"
  else
    cat /tmp/output
    dmesg | tail -n 20
    echo "@@ not ok $title"
  fi
}

program() {
  LD_LIBRARY_PATH=/programs/lib/x86_64-linux-gnu:/programs/usr/lib/x86_64-linux-gnu \
    /programs/node "$@"
}
store_nbd() { program /programs/store/tools/bin/store-nbd.js "$@"; }

# Fails with status $1, and standard error matches $2.
says() {
  status=$1 words=$2
  shift 2
  store_nbd "$@" >/tmp/said 2>&1
  found=$?
  cat /tmp/said
  [ "$found" = "$status" ] && grep -q -e "$words" /tmp/said
}

# The only device of `ps --json` matches all of the words.
device_is() {
  store_nbd ps --json >/tmp/devices || return 1
  cat /tmp/devices
  for words in "$@"; do grep -q -e "$words" /tmp/devices || return 1; done
}

wait_for() {
  for i in $(seq 1 200); do
    "$@" && return 0
    sleep 0.1
  done
  return 1
}
has_size() { [ "$(cat "/sys/block/$1/size")" -gt 0 ]; }
has_no_pid() { [ ! -e "/sys/block/$1/pid" ]; }

load() { for module in $(grep "$@" /modules/order); do insmod "/modules/$module" || return 1; done; }
network() { ip link set lo up && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0; }
hashes() { (cd "$1" && find fast-check node lib -type f -exec sha256sum {} + | sort); }

check "the modules load" load -v '^nbd.ko'
check "the network is up" network
check "the disk with the programs is mounted" mount -t ext4 -o ro /dev/vda /programs

check "attach without the kernel's module names modprobe" says 1 'modprobe nbd' attach "$URI"
check "the nbd module loads" load '^nbd.ko'

# nbd-client with four connections
four() {
  nbd-client 10.0.2.2 "$PORT" /dev/nbd1 -C 4 -N vm1 && wait_for has_size nbd1
}
read_back() {
  hashes /files >/tmp/expected
  mount -t ext4 /dev/nbd1 /mnt && cp -a /files/. /mnt/ && umount /mnt || return 1
  mount -t ext4 /dev/nbd1 /mnt && hashes /mnt >/tmp/found && umount /mnt || return 1
  cmp /tmp/expected /tmp/found
}
check "nbd-client attaches with -C 4" four
check "ext4 is made over four connections" mkfs.ext4 -q -F /dev/nbd1
check "real files come back over four connections" read_back
check "attach refuses a device that somebody else uses" says 1 'in use already' attach "$URI" /dev/nbd1
check "nbd-client detaches" nbd-client -d /dev/nbd1
check "the device of nbd-client ends" wait_for has_no_pid nbd1

# what goes wrong for a newcomer
check "attach names an export the server does not have" says 1 "no export 'nonesuch'" \
  attach "nbd://10.0.2.2:$PORT/nonesuch"

# the long story
attach_two() {
  store_nbd attach --detach --connections 2 --timeout 3s "$URI" /dev/nbd0 >/tmp/device || return 1
  [ "$(cat /tmp/device)" = /dev/nbd0 ] && has_size nbd0
}
check "attach --detach attaches with two connections" attach_two
check "ps shows it with both links" device_is '"state":"connected"' '"alive":2' '"device":"/dev/nbd0"'
check "ext4 is made on it" mkfs.ext4 -q -F /dev/nbd0
check "it is mounted" mount -t ext4 /dev/nbd0 /mnt
program /programs/store/test/dist/kernel/guest-writer.js &
writer=$!
echo "@@ ready"
read -r answer
touch /tmp/stop
check "the writer ends" wait $writer
check "no error reached the writer" grep -q '^0$' /tmp/writer-errors
is_writable() { grep ' /mnt ext4 rw,' /proc/mounts && echo it is >/mnt/proof && sync; }
check "the filesystem is still mounted read-write" is_writable
check "the kernel reported no I/O error" sh -c '! dmesg | grep -i -e "I/O error" -e "journal has aborted" -e "Remounting"'
check "ps shows both links again" device_is '"state":"connected"' '"alive":2' '"problem":null'
check "detach refuses while it is mounted" says 1 'mounted on /mnt' detach /dev/nbd0
kept() { umount /mnt && mount -t ext4 /dev/nbd0 /mnt && sha256sum -c /tmp/notes >/tmp/sums; }
check "every file that was synced is whole after unmounting and mounting" kept
echo "@@ kept $(wc -l </tmp/notes) files"

# the supervisor dies, and another one follows it
kill_supervisor() {
  kill -9 "$(sed 's/.*"pid":\([0-9]*\).*/\1/' /tmp/devices)" && device_is '"state":"unsupervised"'
}
resume() {
  store_nbd attach --detach "$URI" >/tmp/device || return 1
  [ "$(cat /tmp/device)" = /dev/nbd0 ] && device_is '"state":"connected"'
}
write_on() { dd if=/files/lib/api.js of="/mnt/$1" conv=fsync; }
check "ps sees that the supervisor was killed" kill_supervisor
check "the device works on without it" write_on alone
check "attach goes on with the device" resume
echo "@@ restart"
read -r answer
check "the new supervisor redials" write_on resumed
check "it is unmounted" umount /mnt
check "e2fsck finds nothing" e2fsck -f -n /dev/nbd0
check "detach detaches" store_nbd detach /dev/nbd0
check "ps shows nothing any more" sh -c '[ ! -e /sys/block/nbd0/pid ] && [ ! -e /run/store-nbd/nbd0.json ]'

# in the foreground, a single connection that nothing but its death ends
>/tmp/device
store_nbd attach "$URI" >/tmp/device 2>/tmp/log &
check "attach in the foreground takes the next free device" wait_for grep -q '^/dev/nbd' /tmp/device
check "its filesystem is mounted" mount -t ext4 "$(cat /tmp/device)" /mnt
(for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=/mnt/busy bs=1M count=8 conv=fsync || echo bad >/tmp/bad; done) 2>/dev/null &
busy=$!
echo "@@ restart"
read -r answer
check "a write goes on after the restart" write_on single
wait $busy
check "so did those that were in flight" [ ! -e /tmp/bad ]
foreground=$(cat /sys/block/nbd0/pid)
kill -TERM "$foreground"
check "SIGTERM waits while it is mounted" wait_for grep -q 'mounted on /mnt' /tmp/log
check "and detaches when it is not" sh -c "umount /mnt && for i in \$(seq 1 100); do [ -e /proc/$foreground ] || exit 0; sleep 0.1; done; exit 1"
cat /tmp/log
check "nothing is attached at the end" sh -c '! ls /sys/block/nbd*/pid'

echo "@@ done"
poweroff -f
