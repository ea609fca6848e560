# Has systemd start, watch, restart and stop conntally.service, as shipped, with the example of a router.
log=/out/agent.log
unit=conntally.service

diagnose() {
    systemctl status --no-pager --lines=0 "$unit"
    tail -n 20 "$log"
}
says() { systemctl show --property="$1" --value "$unit"; }
is() { [ "$(says "$1")" = "$2" ]; }
runs() { is ActiveState active && is SubState running; }
# A later one than the one before.
runs_again() { runs && [ "$(says MainPID)" != "$1" ]; }
acct() { cat /proc/sys/net/netfilter/nf_conntrack_acct; }

mkdir -p /etc/conntally /etc/credstore "/etc/systemd/system/$unit.d" /usr/bin
cp /root/conntally /usr/bin/conntally
cp /root/conntally.service /etc/systemd/system/
# Its databases are not here: nothing is for them, and the agent need not try.
sed -e 's/^exclude = .*/exclude = ["mark = 4242", "not mark = 4242"]/' -e 's/^type = .*/&\nstatus = false/' \
    /root/router.toml >/etc/conntally/conntally.toml
echo token-of-influxdb >/etc/credstore/conntally.influxdb
echo aWQ6a2V5 >/etc/credstore/conntally.elasticsearch
chmod 600 /etc/credstore/*
# There is no journal, and nobody waits a minute.
printf '[Service]\nStandardError=append:%s\nWatchdogSec=10\n' "$log" >"/etc/systemd/system/$unit.d/guest.conf"
: >"$log"
echo 0 >/proc/sys/net/netfilter/nf_conntrack_acct
systemctl daemon-reload

test_that the-configuration-is-valid-outside-of-the-service 1 conntally config validate /etc/conntally/conntally.toml

systemctl start --no-block "$unit"
seen=
while :; do
    state=$(says ActiveState)
    ready=$(grep -c '^ready' "$log")
    case $state in
        activating) seen=activating ;;
        active) break ;;
        *) [ -n "$seen" ] && break ;;
    esac
    sleep 0.05
done
# It was told apart from what is active, and when it was active, the line had been written.
test_that it-is-active-once-it-is-ready 1 eval '[ "$state" = active ] && grep -q "^ready" "$log"'
test_that it-was-activating-before 1 [ "$seen" = activating ]
test_that it-runs 1 runs
test_that it-tells-how-it-is-doing 60 eval 'says StatusText | grep -q "live flows; completeness of bytes"'
test_that it-counts 1 [ "$(acct)" = 1 ]
test_that its-directories-are-there 1 eval '[ "$(stat -c %a /var/lib/conntally)" = 700 ] && [ -d /run/conntally ]'
test_that its-secrets-are-its-own 1 eval 'tr "\0" "\n" </proc/$(says MainPID)/environ | grep -q ^CREDENTIALS_DIRECTORY='
test_that nothing-is-wrong 1 eval '! grep -E "WARN|ERROR" "$log"'

pid=$(says MainPID)
kill -9 "$pid"
test_that a-killed-one-is-started-again 120 runs_again "$pid"
test_that that-was-noticed 1 is NRestarts 1

pid=$(says MainPID)
kill -STOP "$pid"
test_that one-that-hangs-is-started-again 240 runs_again "$pid"
test_that that-was-noticed-too 1 is NRestarts 2

systemctl stop "$unit"
test_that it-stops-in-good-order 1 eval 'is ActiveState inactive && is Result success'
test_that what-it-shares-stays 1 eval '[ -d /run/conntally ] && [ -d /var/lib/conntally ]'

echo nonsense >/etc/conntally/conntally.toml
test_that a-wrong-configuration-is-a-failure 1 eval '! systemctl start "$unit"'
exit $failed
