"""The packages under a real systemd: a container boots, installs them, and services live through what happens to services.

Needs root, debootstrap, systemd-nspawn (Debian: systemd-container) and build/compile's binary; build/test binary runs it.
"""

import shutil
from pathlib import Path

import pytest
from helpers import containers
from helpers.one_file import BINARY, wanted

ROOT = Path(__file__).parent.parent.parent
MISSING = containers.missing("rpmbuild")

pytestmark = [
    pytest.mark.slow,
    wanted,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.timeout(900),
]

# A hang is found after 5 s instead of 60, and nobody waits for a process that cannot end.
DROP_IN = "[Service]\nWatchdogSec=5\nTimeoutAbortSec=2\nRestartSec=1\n"
CHECK = r"""
rpm -i --nodeps --ignorearch --nosignature /packages/*.rpm; say install $?
say users "$(id -gn cortex) $(id -gn neuron)"
sed -i 's|^# models_dir = .*|models_dir = "/models"|' /etc/neuron/neuron.toml
printf '\n[[neurons]]\nname = "here"\nendpoint = "http://127.0.0.1:13131"\n' >> /etc/cortex/cortex.toml
for s in neuron cortex; do
  service $s
  say $s.enabled "$(systemctl is-enabled $s)"
  mkdir -p /etc/systemd/system/$s.service.d && cp /etc/cortex-test/drop-in.conf /etc/systemd/system/$s.service.d/
done
systemctl daemon-reload
for s in neuron cortex; do
  service $s
  systemctl start $s; say $s.start $?
  healthy $port; say $s.answers_when_ready $?
  say $s.exposure "$(systemd-analyze security --no-pager $s.service | grep 'Overall' | grep -oE '[0-9]+\.[0-9]+')"
done
model=$(basename /models/*.gguf .gguf)
within knows "$model"; say models $?
curl -s -m 300 http://127.0.0.1:31313/v1/chat/completions -H 'content-type: application/json' \
  -d "{\"model\": \"$model\", \"max_tokens\": 8, \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}" |
  grep -q '"completion_tokens"'; say answer $?
for s in neuron cortex; do systemctl reload $s; say $s.reload $?; done

engine=$(pgrep -P "$(of neuron MainPID)")
kill -KILL "$(of neuron MainPID)"
within restarted neuron 1; within healthy 13131; say neuron.after_a_crash $?
within gone "$engine"; say neuron.engine_of_before $?

for s in neuron cortex; do
  service $s
  before=$(of $s NRestarts)
  kill -STOP "$(of $s MainPID)"
  within restarted $s $((before + 1)); within healthy $port; say $s.after_a_hang $?
  journalctl -u $s | grep -q 'Watchdog timeout'; say $s.watchdog $?
done
for s in cortex neuron; do
  systemctl stop $s
  say $s.stopped "$(of $s Result) $(of $s ExecMainStatus)"
done
say left_running "$(pgrep -c -u neuron,cortex)"

echo 'lisen = "127.0.0.1:1"' > /etc/cortex/cortex.toml
systemctl start cortex; say cortex.mistake "$(of cortex ActiveState) $(of cortex ExecMainStatus) $(of cortex NRestarts)"
journalctl -u cortex | grep -q 'lisen: unknown key'; say cortex.mistake_named $?

started() { systemctl reset-failed cortex; systemctl start cortex; }
ended() { say "$1" "$(of cortex ExecMainStatus) $(of cortex NRestarts) $(of cortex ActiveState)"; }
mkdir -m 0700 /srv/private && mkdir /srv/private/models
sed -i 's|^models_dir = .*|models_dir = "/srv/private/models"|' /etc/neuron/neuron.toml
systemctl start neuron
printf '[gateway]\nlisten = "127.0.0.1:13131"\n' > /etc/cortex/cortex.toml
started; ended taken
printf '[gateway]\nlisten = "10.99.99.99:31313"\n' > /etc/cortex/cortex.toml
started; within restarted cortex 1; say not_here.tried_again $?
systemctl stop cortex
printf '[Service]\nEnvironment=CORTEX_UNPACK_DIR=/var/cache/cortex\n' > /etc/systemd/system/cortex.service.d/unpack.conf
systemctl daemon-reload
mount -t tmpfs -o size=10m none /var/cache/cortex
started; within restarted cortex 1; say full.tried_again $?
systemctl stop cortex
mount -o remount,noexec,size=500m /var/cache/cortex
started; ended noexec
rpm -e cortex helexa-neuron cortex-bin; say erase $?
ls /usr/bin/cortex /usr/lib/systemd/system/cortex.service; say erased $?
ls /etc/cortex/cortex.toml.rpmsave; say kept $?
journalctl -u cortex -u neuron --no-pager > /journal
"""


@pytest.fixture(scope="module")
def facts(tmp_path_factory, empty_debian, demo_model):
    """What the container's script said: `name → value`; `journal` has what the services logged."""
    folder = tmp_path_factory.mktemp("systemd")
    binary, drop_in = folder / "dist" / "cortex", folder / "drop-in.conf"
    binary.parent.mkdir()
    for name in ("cortex", "cortex.json"):
        shutil.copy(BINARY.with_name(name), binary.with_name(name))
    packed = containers.run(ROOT / "build" / "package", "rpm", "--binary", binary, seconds=100)
    assert packed.returncode == 0, packed.stderr
    drop_in.write_text(DROP_IN)
    files = {"packages": map(Path, packed.stdout.split()), "models": [demo_model], "etc/cortex-test": [drop_in]}
    return containers.boot(empty_debian, folder / "root", CHECK, files)


def those(facts, *names):
    return {name: facts.get(name) for name in names}


def test_an_installation_makes_users_and_enables_services(facts):
    """As the distribution's presets say; Debian's say yes."""
    assert those(facts, "install", "users", "neuron.enabled", "cortex.enabled") == {
        "install": "0",
        "users": "cortex neuron",
        "neuron.enabled": "enabled",
        "cortex.enabled": "enabled",
    }, facts["journal"]


def test_a_service_that_has_started_answers(facts):
    """systemd says started when the port answers, and a model answers through both roles."""
    names = [f"{s}.{what}" for s in ("neuron", "cortex") for what in ("start", "answers_when_ready", "reload")]
    assert those(facts, *names, "models", "answer") == dict.fromkeys([*names, "models", "answer"], "0"), facts[
        "journal"
    ]


def test_a_service_that_hangs_is_started_again(facts):
    """The watchdog's pings stop, systemd ends it, and it is healthy again."""
    names = [f"{s}.{what}" for s in ("neuron", "cortex") for what in ("after_a_hang", "watchdog")]
    assert those(facts, *names) == dict.fromkeys(names, "0"), facts["journal"]


def test_a_neuron_that_crashes_leaves_no_engine(facts):
    """It is started again; the engine of before is gone."""
    names = ("neuron.after_a_crash", "neuron.engine_of_before")
    assert those(facts, *names) == dict.fromkeys(names, "0"), facts["journal"]


def test_a_service_stops_cleanly(facts):
    """Exit code 0 after SIGTERM, and nothing of it runs any more."""
    assert those(facts, "cortex.stopped", "neuron.stopped", "left_running") == {
        "cortex.stopped": "success 0",
        "neuron.stopped": "success 0",
        "left_running": "0",
    }, facts["journal"]


def test_a_mistake_in_a_configuration_is_said_once(facts):
    """The service stays failed, with the reason in the journal."""
    assert those(facts, "cortex.mistake", "cortex.mistake_named") == {
        "cortex.mistake": "failed 2 0",
        "cortex.mistake_named": "0",
    }, facts["journal"]


def test_what_keeps_a_service_from_starting_is_one_line_that_says_what_would_help(facts):
    """Nobody restarts what somebody has to change; what may pass by itself is tried again."""
    names = ("taken", "not_here.tried_again", "full.tried_again", "noexec")
    assert those(facts, *names) == {
        "taken": "2 0 failed",
        "not_here.tried_again": "0",
        "full.tried_again": "0",
        "noexec": "2 0 failed",
    }, facts["journal"]
    lines = [line.partition("]: ")[2] for line in facts["journal"].splitlines()]
    nowhere = "cortex: there is no directory to unpack to (/var/cache/cortex: {}); make room there, or name one "
    for told in (
        "cortex: the gateway cannot listen on 127.0.0.1:13131: address already in use; stop what listens there",
        "cortex: the gateway cannot listen on 10.99.99.99:31313: this host has no such address, or not yet; change",
        nowhere.format("it is mounted noexec"),
    ):
        assert [line for line in lines if line.startswith(told)], facts["journal"]
    for told in (
        "MB are needed, and 10 MB are free",
        "to user 'neuron' at /srv/private (`setfacl -m u:neuron:rx /srv/private` lets it)",
    ):
        assert [line for line in lines if told in line], facts["journal"]


def test_what_is_erased_is_gone_and_what_was_changed_is_kept(facts):
    """Programs and units leave; a configuration that somebody wrote stays as .rpmsave."""
    assert facts["erase"] == "0"
    assert facts["erased"] != "0"
    assert facts["kept"] == "0"


def test_the_running_services_are_confined(facts):
    """As systemd judges the units that it runs."""
    assert float(facts["cortex.exposure"]) <= 2.0
    assert float(facts["neuron.exposure"]) <= 3.5
