# Where the kernel is locked down: `conntally check` says what is forbidden and what opens it, `conntally run` does without.
log=/out/agent.log

diagnose() {
    cat /out/check.txt
    tail -n 20 "$log"
}
says() { tr -s ' \n' ' ' </out/check.txt | grep -q "$@"; }
logs() { grep -q "$@" "$log"; }
stop() {
    kill -TERM "$pid"
    wait "$pid"
}
: >"$log"

mount -t securityfs none /sys/kernel/security
test_that it-is-locked-down 1 grep -q '\[confidentiality\]' /sys/kernel/security/lockdown
conntally check >/out/check.txt
code=$?
test_that check-says-that-there-are-limits 1 [ "$code" = 3 ]
test_that check-names-the-lockdown 1 says 'WARN lockdown confidentiality: the kernel refuses tracing programs'
test_that check-says-that-tracing-is-not-permitted 1 says 'WARN hooks tracing is not permitted'
test_that check-says-what-mends-it 1 says 'boot with lockdown=integrity'
test_that check-shows-nothing-of-the-verifier 1 eval '! says -e R1 -e insns'

ip link set lo up
conntally run --track --output json >/out/flows.json 2>"$log" &
pid=$!
test_that run-gets-ready 60 logs '^ready source=netlink'
test_that run-says-why-it-uses-netlink 1 logs 'netlink is used instead of the kernel programs: tracing is not permitted here'
test_that run-says-it-in-a-line 1 eval '! logs -e insns -e "^[0-9]*: ("'
ping -q -c 1 127.0.0.1 >/dev/null
test_that run-accounts 20 grep -q '"transport":"icmp"' /out/flows.json
test_that run-stops-in-good-order 1 stop
exit $failed
