#!/bin/busybox sh
# The first process of the guest. Talks to the test over the console in lines that start with "@@":
#   @@ ok TITLE, @@ not ok TITLE   a check
#   @@ restart                     disconnected; answer a line when store-nbd was restarted
#   @@ done                        everything was run
# Kernel command line: store_port=PORT of store-nbd on the host.

export PATH=/bin:/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo
dmesg -n 1

PORT=$(sed 's/.*store_port=\([0-9]*\).*/\1/' /proc/cmdline)

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

hashes() { (cd "$1" && find fast-check node lib -type f -exec sha256sum {} + | sort); }
same_hashes() { hashes /mnt >/tmp/found && cmp /tmp/found /tmp/expected; }

# The device is ready when its size is known.
attach() {
  nbd-client 10.0.2.2 "$PORT" /dev/nbd0 || return 1
  for i in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(cat /sys/block/nbd0/size)" -gt 0 ] && return 0
    sleep 0.2
  done
  return 1
}

detach() { nbd-client -d /dev/nbd0; }

fill() {
  fs=$1
  check "mkfs.$fs makes a filesystem" "mkfs.$fs" -q -F /dev/nbd0
  check "$fs is mounted" mount -t "$fs" /dev/nbd0 /mnt
  check "real files are copied to $fs" cp -a /files/. /mnt/
  check "$fs is unmounted" umount /mnt
  check "$fs is mounted again" mount -t "$fs" /dev/nbd0 /mnt
  check "the files on $fs have the same hashes" same_hashes
  check "$fs is unmounted again" umount /mnt
  check "e2fsck finds nothing on $fs" e2fsck -f -n /dev/nbd0
}

load() { for module in $(cat /modules/order); do insmod "/modules/$module" || return 1; done; }
network() { ip link set lo up && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0; }

check "the modules load" load
check "the network is up" network
hashes /files >/tmp/expected
check "there are some hundred real files" test "$(wc -l </tmp/expected)" -gt 300

check "nbd-client connects" attach
fill ext4
check "nbd-client disconnects" detach

echo "@@ restart"
read -r answer

check "nbd-client connects after a restart of store-nbd" attach
check "ext4 is mounted after the restart" mount -t ext4 /dev/nbd0 /mnt
check "the files on ext4 have the same hashes after the restart" same_hashes
check "ext4 is unmounted after the restart" umount /mnt
check "e2fsck finds nothing on ext4 after the restart" e2fsck -f -n /dev/nbd0
fill ext3
check "nbd-client disconnects at the end" detach

echo "@@ done"
poweroff -f
