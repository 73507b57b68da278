#!/bin/busybox sh
# The first process of a guest whose servers are restarted: /dev/nbd0 is attached with nbd-client, /dev/vda is a disk that
# QEMU attached. Talks to the test in lines that start with "@@":
#   @@ ok TITLE, @@ not ok TITLE   a check
#   @@ restart                     both writers write; answer a line when the planned restarts are over
#   @@ kill                        the writer on /dev/vda alone writes; answer a line when the kills are over
#   @@ synced WRITER COUNT         files the writer has synced
#   @@ writer WRITER cannot …      what must not happen
#   @@ kept WRITER COUNT           files that were whole after unmounting and mounting
#   @@ done                        everything was run
# Kernel command line: store_port=PORT of the store-nbd for nbd-client, on the host.

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

load() { for module in $(cat /modules/order); do insmod "/modules/$module" || return 1; done; }
network() { ip link set lo up && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0; }
wait_for() {
  for i in $(seq 1 200); do
    "$@" && return 0
    sleep 0.1
  done
  return 1
}
has_size() { [ "$(cat "/sys/block/$1/size")" -gt 0 ]; }
has_no_pid() { [ ! -e "/sys/block/$1/pid" ]; }
attach() { nbd-client 10.0.2.2 "$PORT" /dev/nbd0 -N vm1 && wait_for has_size nbd0; }

# Writes files to /mnt/$1 and syncs each one (which for a new file on ext4 syncs its name too); notes its hash only then,
# in memory. Stops when /tmp/stop-$1 is there, or at the first error.
write_files() {
  name=$1 count=0
  : >"/tmp/notes-$name"
  while [ ! -e "/tmp/stop-$name" ]; do
    file=/mnt/$name/$count
    head -c $((1000 + count % 13 * 2000)) /dev/urandom >"/tmp/new-$name"
    if ! dd "if=/tmp/new-$name" "of=$file" bs=16k conv=fsync status=none; then
      echo "@@ writer $name cannot write file $count"
      return 1
    fi
    hash=$(sha256sum <"/tmp/new-$name")
    echo "${hash%% *}  $file" >>"/tmp/notes-$name"
    count=$((count + 1))
    echo "@@ synced $name $count"
  done
}

# One file that is written without a sync, again and again, so that more than one request is in flight.
write_without_sync() {
  name=$1
  while [ ! -e "/tmp/stop-$name" ]; do
    if ! dd if=/files/busy "of=/mnt/$name/busy" bs=64k status=none || ! sync -d "/mnt/$name/busy"; then
      echo "@@ writer $name cannot write without sync"
      return 1
    fi
    sleep 0.3
  done
}

# The files and their writers of a device are all called $1.
begin() {
  check "ext4 is made on $1" mkfs.ext4 -q -F "/dev/$1"
  mkdir -p "/mnt/$1"
  check "$1 is mounted" mount -t ext4 "/dev/$1" "/mnt/$1"
}

is_writable() { grep " /mnt/$1 ext4 rw," /proc/mounts && echo it is >"/mnt/$1/proof" && sync; }
no_errors() { [ "$(cat "/sys/fs/ext4/$1/errors_count")" = 0 ]; }
silent() { ! dmesg | grep -i -e 'I/O error' -e 'journal has aborted' -e 'Remounting'; }
has_kept_its_link() { ! dmesg | grep 'block nbd0:'; }
again() { umount "/mnt/$1" && mount -t ext4 "/dev/$1" "/mnt/$1"; }
end() {
  name=$1
  touch "/tmp/stop-$name"
  check "the writer on $name ends without an error" wait "$2"
  check "so does the one that does not sync" wait "$3"
  check "$name is still mounted read-write" is_writable "$name"
  check "the filesystem on $name counted no error" no_errors "$name"
  check "the kernel reported no I/O error before the end of $name" silent
  check "$name is unmounted and mounted" again "$name"
  check "every file synced on $name is whole" sha256sum -c "/tmp/notes-$name"
  echo "@@ kept $name $(grep -c ': OK$' /tmp/output)"
  check "$name is unmounted" umount "/mnt/$name"
  check "e2fsck finds nothing on $name" e2fsck -f -n "/dev/$name"
}

check "the modules load" load
check "the network is up" network
check "nbd-client attaches nbd0" attach
check "the guest has the disk vda" wait_for has_size vda
head -c 1048576 /dev/urandom >/files/busy
begin nbd0
begin vda

write_files nbd0 &
nbd0_writer=$!
write_without_sync nbd0 &
nbd0_busy=$!
write_files vda &
vda_writer=$!
write_without_sync vda &
vda_busy=$!

echo "@@ restart"
read -r answer
check "the kernel's nbd driver had nothing to say" has_kept_its_link
end nbd0 $nbd0_writer $nbd0_busy
check "nbd-client detaches nbd0" nbd-client -d /dev/nbd0
check "nbd0 ends" wait_for has_no_pid nbd0

echo "@@ kill"
read -r answer
end vda $vda_writer $vda_busy

echo "@@ done"
poweroff -f
