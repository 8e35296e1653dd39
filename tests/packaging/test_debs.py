"""The .debs under a real systemd: installed, upgraded, given another flavour, removed, purged, as Debian's policy has it.

Needs root, debootstrap, systemd-nspawn (Debian: systemd-container) and build/compile's binary; build/test binary runs it.
"""

import shutil
from pathlib import Path

import pytest
from helpers import containers
from helpers.one_file import BINARY, wanted

ROOT = Path(__file__).parent.parent.parent
MISSING = containers.missing("rpmbuild", "dpkg-deb")
NEXT, OTHER = "2" * 32, "3" * 32  # identities of the files of the next version, and of another flavour

pytestmark = [
    pytest.mark.slow,
    wanted,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.timeout(900),
]

CHECK = r"""
owned() { for path in "$@"; do stat -c '%a %U:%G %n' "$path"; done | tr '\n' ';'; }
runs() { case "$(readlink "/proc/$(of "$1" MainPID)/exe")" in */"$2"*) ;; *) return 1 ;; esac; }
pinged() { [ "$(of "$1" WatchdogTimestampMonotonic)" != "$2" ]; }
listens() { awk '$4 == "0A" { split($2, at, ":"); print at[1] }' /proc/net/tcp /proc/net/tcp6 | sort -u | xargs; }
apt() { apt-get -y -o Dpkg::Options::=--force-confold "$@" >> /apt.log 2>&1; }

apt install /packages/first/*.deb; say install $?
for s in neuron cortex; do
  service $s
  say $s.installed "$(systemctl is-enabled $s) $(systemctl is-active $s)"
  healthy $port; say $s.answers $?
  say $s.owned "$(owned /etc/$s /etc/$s/$s.toml /usr/bin/cortex /var/lib/$s /var/cache/$s /run/$s)"
  mkdir -p /etc/systemd/system/$s.service.d
  printf '[Service]\nWatchdogSec=4\nRestartSec=1\n' > /etc/systemd/system/$s.service.d/test.conf
done
say listens "$(listens)"
say user "$(getent passwd neuron | cut -d: -f6,7) $(id -Gn neuron)"
sed -i 's|^# models_dir = .*|models_dir = "/models"|' /etc/neuron/neuron.toml
printf '\n[[neurons]]\nname = "here"\nendpoint = "http://127.0.0.1:13131"\n' >> /etc/cortex/cortex.toml
systemctl daemon-reload
systemctl restart neuron cortex; say restart $?
within knows "$(basename /models/*.gguf .gguf)"; say models $?
for s in neuron cortex; do
  service $s
  within pinged $s "$(of $s WatchdogTimestampMonotonic)"; say $s.pings $?
  kill -KILL "$(of $s MainPID)"
  within restarted $s 1; within healthy $port; say $s.after_a_crash $?
done

systemctl disable cortex
apt install /packages/next/*.deb; say upgrade $?
for s in neuron cortex; do
  service $s
  runs $s NEXT; say $s.upgraded $?
  healthy $port; say $s.answers_upgraded $?
  say $s.owned_upgraded "$(owned /etc/$s /etc/$s/$s.toml)"
done
say upgraded.enabled "$(systemctl is-enabled neuron) $(systemctl is-enabled cortex)"
grep -q '^models_dir = "/models"' /etc/neuron/neuron.toml && grep -q '^name = "here"' /etc/cortex/cortex.toml; say upgraded.kept $?
ls /etc/neuron/neuron.toml.dpkg-dist; say upgraded.theirs $?
systemctl enable cortex

apt install /packages/other/*.deb; say flavour $?
say flavour.installed "$(dpkg-query -W -f '${Package} ' 'cortex-bin*' | xargs -n1 dpkg -s | grep -B1 'ok installed' | grep Package: | cut -d' ' -f2 | xargs)"
within runs neuron OTHER; within runs cortex OTHER; say flavour.runs $?

apt remove cortex; say remove $?
say removed "$(systemctl is-active cortex) $(ls -d /etc/cortex/cortex.toml /usr/lib/systemd/system/cortex.service /var/cache/cortex 2>/dev/null | xargs)"
apt install /packages/next/cortex_*.deb; say again $?
within healthy 31313; say again.answers $?
say again.enabled "$(systemctl is-enabled cortex)"
grep -q '^name = "here"' /etc/cortex/cortex.toml; say again.kept $?

touch /var/lib/neuron/a-model
apt purge cortex helexa-neuron 'cortex-bin*'; say purge $?
say purged "$(ls -d /etc/cortex/cortex.toml /etc/neuron/neuron.toml /var/cache/cortex /var/cache/neuron /usr/bin/cortex \
  /etc/systemd/system/multi-user.target.wants/neuron.service /var/lib/systemd/deb-systemd-helper-enabled/neuron.service* \
  /var/lib/neuron/a-model 2>/dev/null | xargs)"
grep -q '/var/lib/neuron is kept' /apt.log; say purged.told $?
say left_running "$(pgrep -c -u neuron,cortex)"
{ cat /apt.log; journalctl -u cortex -u neuron --no-pager; } > /journal
"""


def repacked(deb, folder, *changes, identity):
    """The same package as of another version or flavour: `changes` are sed's, of what it says of itself."""
    tree = folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    assert containers.run("dpkg-deb", "-R", deb, tree, seconds=60).returncode == 0
    for change in changes:
        containers.run("sed", "-i", change, tree / "DEBIAN" / "control", seconds=60)
    if (
        program := tree / "usr/bin/cortex"
    ).exists():  # the trailer's end is the name of the folder that it is unpacked to
        program.write_bytes(program.read_bytes()[: -len(identity)] + identity.encode())
    if (sample := tree / "etc/neuron/neuron.toml").exists():
        sample.write_text(sample.read_text() + "# new in this version\n")
    done = containers.run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, folder, seconds=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def facts(tmp_path_factory, empty_debian, demo_model):
    """What the container's script said: `name → value`; `journal` has what dpkg and the services said."""
    folder = tmp_path_factory.mktemp("debs")
    dist, following, other = (folder / name for name in ("dist", "next", "other"))
    for each in (dist, following, other):
        each.mkdir()
    for name in ("cortex", "cortex.json"):
        shutil.copy(BINARY.with_name(name), dist / name)
    packed = containers.run(ROOT / "build" / "package", "deb", "--binary", dist / "cortex", seconds=100)
    assert packed.returncode == 0, packed.stderr
    debs = [Path(line) for line in packed.stdout.split()]
    version = debs[0].name.split("_")[1]
    to_next = f"s/{version}/99.0-1/g"
    for deb in debs:
        repacked(deb, following, to_next, identity=NEXT)
    (binary,) = dist.glob("cortex-bin_*.deb")
    repacked(binary, other, f"{to_next};s/^Package: cortex-bin/&-other/", identity=OTHER)
    files = {
        f"packages/{name}": each.glob("*.deb")
        for name, each in (("first", dist), ("next", following), ("other", other))
    }
    script = CHECK.replace("NEXT", NEXT).replace("OTHER", OTHER)
    return containers.boot(empty_debian, folder / "root", script, files | {"models": [demo_model]})


def those(facts, *names):
    return {name: facts.get(name) for name in names}


def test_an_installation_starts_the_services(facts):
    """As Debian's services do: users are made, units enabled, and they answer; apt found all that they depend on."""
    names = ["install", "neuron.answers", "cortex.answers"]
    assert those(facts, *names) == dict.fromkeys(names, "0"), facts["journal"]
    assert those(facts, "neuron.installed", "cortex.installed") == dict.fromkeys(
        ["neuron.installed", "cortex.installed"], "enabled active"
    )
    assert facts["user"] == "/var/lib/neuron:/sbin/nologin neuron video render"


def test_what_an_installation_starts_is_for_this_host_only(facts):
    """Nobody has chosen a token, keys or a network yet: 127.0.0.1, as /proc writes it."""
    assert facts["listens"] == "0100007F"


@pytest.mark.parametrize(("service", "state"), [("cortex", 750), ("neuron", 755)])
def test_files_belong_to_root_and_folders_to_the_service(facts, service, state):
    """Secrets are for root and the service's group; what the service writes is its own."""
    assert facts[f"{service}.owned"] == (
        f"750 root:{service} /etc/{service};640 root:{service} /etc/{service}/{service}.toml;755 root:root /usr/bin/cortex;"
        f"{state} {service}:{service} /var/lib/{service};700 {service}:{service} /var/cache/{service};"
        f"700 {service}:{service} /run/{service};"
    )


def test_services_live_through_a_crash(facts):
    """They ping systemd's watchdog, and are started again when they were killed."""
    names = ["restart", "models", *(f"{s}.{what}" for s in ("neuron", "cortex") for what in ("pings", "after_a_crash"))]
    assert those(facts, *names) == dict.fromkeys(names, "0"), facts["journal"]


def test_an_upgrade_runs_the_new_file_with_the_old_configuration(facts):
    """Local changes stay, with owners and modes; a changed sample lies beside; who was disabled stays so, and runs on."""
    names = ["upgrade", "upgraded.kept", "upgraded.theirs"]
    names += [f"{s}.{what}" for s in ("neuron", "cortex") for what in ("upgraded", "answers_upgraded")]
    assert those(facts, *names) == dict.fromkeys(names, "0"), facts["journal"]
    for service in ("neuron", "cortex"):
        assert facts[f"{service}.owned"].startswith(facts[f"{service}.owned_upgraded"])
    assert facts["upgraded.enabled"] == "enabled disabled"


def test_a_flavour_takes_the_place_of_another(facts):
    """One command: the other file's package leaves, and the services run the new one."""
    assert those(facts, "flavour", "flavour.installed", "flavour.runs") == {
        "flavour": "0",
        "flavour.installed": "cortex-bin-other",
        "flavour.runs": "0",
    }, facts["journal"]


def test_what_was_removed_comes_back_as_it_was(facts):
    """Removing keeps the configuration and nothing else; installing again enables and starts."""
    assert those(facts, "remove", "removed") == {"remove": "0", "removed": "inactive /etc/cortex/cortex.toml"}
    assert those(facts, "again", "again.answers", "again.enabled", "again.kept") == {
        "again": "0",
        "again.answers": "0",
        "again.enabled": "enabled",
        "again.kept": "0",
    }, facts["journal"]


def test_a_purge_leaves_only_what_no_package_can_bring_back(facts):
    """Configuration, caches and links of units are gone; models and budgets are kept, and that is said."""
    assert those(facts, "purge", "purged", "purged.told", "left_running") == {
        "purge": "0",
        "purged": "/var/lib/neuron/a-model",
        "purged.told": "0",
        "left_running": "0",
    }, facts["journal"]
