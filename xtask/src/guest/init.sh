#!/bin/busybox sh
# First process of a guest, or what starts it: systemd, where there is one, runs this once more with the word `command`.
# ttyS0: kernel messages; ttyS1: what the command prints; ttyS2: /out as an archive.
export PATH=/bin:/sbin:/bb HOME=/root TERM=dumb
if [ "$1" != command ]; then
    /bin/busybox mkdir -p /bb
    /bin/busybox --install -s /bb
    ln -s /bb/modprobe /sbin/modprobe
    mount -t proc none /proc
    mount -t sysfs none /sys
    mount -t devtmpfs none /dev
    mount -t tmpfs none /tmp
    mount -t tmpfs none /run
    mount -t tracefs none /sys/kernel/tracing
    mount -t debugfs none /sys/kernel/debug
    mount -t bpf none /sys/fs/bpf
    mkdir -p /run/netns
    stty raw -F /dev/ttyS1 2>/dev/null
    stty raw -F /dev/ttyS2 2>/dev/null
    grep -qw conntally.no_conntrack /proc/cmdline ||
        for module in nf_conntrack nf_conntrack_netlink nf_tables nft_counter nft_ct; do
            modprobe "$module" 2>/dev/null
        done
    modprobe veth 2>/dev/null
    ip link set lo up
    [ -x /lib/systemd/systemd ] && exec /lib/systemd/systemd
fi
cd /root
/bin/bash /command.sh </dev/null >/dev/ttyS1 2>&1
echo $? >/out/exit-code
dmesg >/out/dmesg
tar cz -C /out . >/dev/ttyS2
sync
reboot -f
