# Where conntrack is not loaded: `conntally check` only looks, `conntally run` loads it, or waits until somebody does.
log=/out/agent.log
agent=$(command -v conntally)

diagnose() {
    cat /out/check.txt
    tail -n 20 "$log"
}
modules() { cut -d' ' -f1 /proc/modules | sort; }
is_loaded() { [ -e /sys/module/nf_conntrack ]; }
says() { grep -q "$@" /out/check.txt; }
logs() { grep -q "$@" "$log"; }
# Those that use it go first; a namespace is taken down some time after its removal.
unload() {
    rmmod nft_ct nf_tables nf_conntrack_netlink nf_conntrack 2>/dev/null
    ! is_loaded
}
stop() {
    kill -TERM "$pid"
    wait "$pid"
}
: >"$log"

test_that it-is-not-loaded-at-first 1 eval '! is_loaded'
before=$(modules)
conntally check >/out/check.txt
code=$?
conntally check --json >/out/check.json
test_that check-says-that-there-are-limits 1 [ "$code" = 3 ]
test_that check-says-that-the-agent-will-load-it 1 says 'WARN  conntrack .*the agent loads it when it starts'
test_that check-tries-no-hooks 1 says 'WARN  hooks .*not tried'
test_that check-asks-nothing-by-netlink 1 says 'WARN  netlink .*not tried'
test_that check-claims-nothing-of-what-is-not-there 1 eval '! says -e answers -e "not possible" -e "FAIL"'
test_that check-loads-nothing 1 [ "$(modules)" = "$before" ]

# Without a modprobe, which is found there even if PATH does not say so.
mv /sbin/modprobe /root/hidden
PATH=/nowhere "$agent" run --output null 2>"$log" &
pid=$!
test_that run-waits-where-it-cannot-load-it 40 logs 'waiting until it is'
test_that run-is-not-ready-yet 1 eval '! logs ^ready'
mv /root/hidden /sbin/modprobe
modprobe nf_conntrack
test_that run-gets-ready-once-it-is-loaded 120 logs ^ready
test_that run-stops-in-good-order 1 stop

test_that it-can-be-unloaded-again 60 unload
conntally run --output null 2>"$log" &
pid=$!
test_that run-gets-ready-by-itself 120 logs ^ready
test_that run-has-loaded-it 1 eval 'is_loaded && logs "loaded the module nf_conntrack"'
ip netns add late
test_that run-stops-in-good-order-again 1 stop
test_that run-tells-where-accounting-stays-on 1 logs 'stays on in 1 network namespace .*(late)'
exit $failed
