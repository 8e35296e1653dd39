"""The packages under a real systemd: a container boots, installs them, and services live through what happens to services.

Needs root, debootstrap, systemd-nspawn (Debian: systemd-container) and build/compile's binary; build/test binary runs it.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BINARY = Path(os.environ.get("CORTEX_BINARY", ROOT / "dist" / "cortex"))
TOOLS = ("debootstrap", "systemd-nspawn", "rpmbuild")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BINARY.exists(), reason=f"there is no {BINARY.name}: build/compile has not been run"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may start containers"),
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)}: not installed"),
    pytest.mark.timeout(900),
]

UNIT = """\
[Service]
ExecStart=/bin/bash /check.sh
ExecStopPost=/bin/systemctl poweroff --no-block
Environment=HOME=/root
"""
# A hang is found after 5 s instead of 60, and nobody waits for a process that cannot end.
DROP_IN = "[Service]\nWatchdogSec=5\nTimeoutAbortSec=2\nRestartSec=1\n"
CHECK = r"""
say() { echo "$*" >> /facts; }
of() { systemctl show "$1" -p "$2" --value; }
within() { for _ in $(seq 300); do "$@" > /dev/null 2>&1 && return 0; sleep 0.2; done; return 1; }
healthy() { curl -sf -m 5 "http://127.0.0.1:$1/health"; }
knows() { curl -s -m 5 http://127.0.0.1:31313/v1/models | grep -q "$1"; }
restarted() { [ "$(of "$1" NRestarts)" -ge "$2" ]; }
gone() { [ ! -e "/proc/$1" ]; }
service() { port=13131; [ "$1" = cortex ] && port=31313; return 0; }

rpm -i --nodeps --ignorearch --nosignature /packages/*.rpm; say install $?
say users "$(id -gn cortex) $(id -gn neuron)"
sed -i 's|^# models_dir = .*|models_dir = "/models"|' /etc/neuron/neuron.toml
printf '\n[[neurons]]\nname = "here"\nendpoint = "http://127.0.0.1:13131"\n' >> /etc/cortex/cortex.toml
for s in neuron cortex; do
  service $s
  say $s.enabled "$(systemctl is-enabled $s)"
  mkdir -p /etc/systemd/system/$s.service.d && cp /drop-in.conf /etc/systemd/system/$s.service.d/
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
rpm -e cortex helexa-neuron cortex-bin; say erase $?
ls /usr/bin/cortex /usr/lib/systemd/system/cortex.service; say erased $?
ls /etc/cortex/cortex.toml.rpmsave; say kept $?
journalctl -u cortex -u neuron --no-pager > /journal
"""


def run(*command, seconds, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, **options)


@pytest.fixture(scope="module")
def facts(tmp_path_factory, demo_model):
    """What the container's script said: `name → value`; `journal` has what the services logged."""
    folder = tmp_path_factory.mktemp("systemd")
    root, binary = folder / "root", folder / "dist" / "cortex"
    packages = "systemd,systemd-sysv,dbus,curl,procps,rpm,libstdc++6"
    made = run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", root, seconds=400)
    if made.returncode != 0:
        pytest.skip(f"debootstrap cannot make a root here: {made.stdout[-300:]}")
    binary.parent.mkdir()
    for name in ("cortex", "cortex.json"):
        shutil.copy(BINARY.with_name(name), binary.with_name(name))
    packed = run(ROOT / "build" / "package", "rpm", "--binary", binary, seconds=100)
    assert packed.returncode == 0, packed.stderr
    for path, files in (("packages", map(Path, packed.stdout.split())), ("models", [demo_model])):
        (root / path).mkdir()
        for file in files:
            shutil.copy(file, root / path)
    (root / "check.sh").write_text(CHECK)
    (root / "drop-in.conf").write_text(DROP_IN)
    (root / "etc/systemd/system/check.service").write_text(UNIT)
    (root / "etc/systemd/system/multi-user.target.wants/check.service").symlink_to("../check.service")
    booted = run(
        *("systemd-nspawn", "--register=no", "--keep-unit", "--private-network", "--boot", "--directory", root),
        seconds=500,
        stdin=subprocess.DEVNULL,
    )
    if not (root / "facts").exists():
        pytest.skip(f"systemd does not boot in a container here: {(booted.stdout + booted.stderr)[-300:]}")
    said = dict(line.split(" ", 1) for line in (root / "facts").read_text().splitlines())
    journal = root / "journal"
    return said | {"journal": journal.read_text() if journal.exists() else "the script did not come to its end"}


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


def test_what_is_erased_is_gone_and_what_was_changed_is_kept(facts):
    """Programs and units leave; a configuration that somebody wrote stays as .rpmsave."""
    assert facts["erase"] == "0"
    assert facts["erased"] != "0"
    assert facts["kept"] == "0"


def test_the_running_services_are_confined(facts):
    """As systemd judges the units that it runs."""
    assert float(facts["cortex.exposure"]) <= 2.0
    assert float(facts["neuron.exposure"]) <= 3.5
