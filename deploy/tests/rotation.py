"""The example for logrotate: a real rotation under a real dnsmasq, while the agent reads. Run by debian.py."""

import json
import pathlib
import re
import subprocess
import time

from clean_root import Defect, expect, run

EXAMPLE = "usr/share/doc/netmon-agent/examples/logrotate/netmon-dnsmasq"
LOG = "/var/log/dnsmasq.log"
LIMIT_S = 20
ROUNDS, QUESTIONS = 3, 20


def until(what, condition):
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise Defect(f"rotation: not within {LIMIT_S} s: {what}")


class Host:
    """Namespaces of processes, mounts and the network in the root, so that a process id in it means the same to all."""

    def __init__(self, root):
        self.root = root
        self.holder = subprocess.Popen(
            ["unshare", "-mnpf", "--kill-child", f"--root={root.path}", "--mount-proc", "sleep", "600"]
        )
        children = pathlib.Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children")
        inside = until("a namespace", lambda: children.read_text().split())[0]
        until("its program", lambda: pathlib.Path(f"/proc/{inside}/comm").read_text().strip() == "sleep")
        self.network = ("nsenter", "-t", inside, "-n")
        self.all = ("nsenter", "-t", inside, "-m", "-n", "-p", "-r", "-w", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        run(*self.network, "ip", "link", "set", "lo", "up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.holder.kill()
        self.holder.wait()

    def do(self, *command):
        return run(*self.all, *command)

    def start(self, *command, output=subprocess.DEVNULL):
        return subprocess.Popen([*self.all, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def ask(self, name):
        command = [*self.network, "dig", "+short", "+tries=1", "+timeout=5", "@127.0.0.1", name, "A"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def told(path):
    lines = path.read_text().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [event["name"] for event in events if event["type"] == "dns_response"]


def test_rotation(root):
    example = (root.path / EXAMPLE).read_text()
    # As its first lines say.
    settings = re.findall(r"^#   (log-\S+)$", example, flags=re.M)
    first = re.search(r"^#   (install .*)$", example, flags=re.M)[1].split()
    (root.path / "etc/logrotate.d/netmon-dnsmasq").write_text(example)
    configuration, out = root.path / "tmp/dnsmasq.conf", root.path / "tmp/told"
    configuration.write_text("\n".join([*settings, "no-resolv", "no-hosts", "address=/netmon.test/192.0.2.1", ""]))
    with Host(root) as host:
        host.do(*first)
        # As Debian's package of dnsmasq starts it.
        host.do("install", "-d", "-o", "dnsmasq", "-g", "nogroup", "/run/dnsmasq")
        host.start("dnsmasq", "-k", "-C", "/tmp/dnsmasq.conf", "-x", "/run/dnsmasq/dnsmasq.pid", "-u", "dnsmasq")
        until("dnsmasq answers", lambda: host.ask("ready.netmon.test"))
        # With the rights of its unit, and the configuration that is shipped.
        with out.open("w") as file:
            host.start(
                "setpriv", "--reuid=netmon-agent", "--regid=netmon-agent", "--groups=adm", "--inh-caps=-all,+net_admin",
                "--ambient-caps=-all,+net_admin", "--bounding-set=-all,+net_admin",
                "netmon-agent", "--dump", output=file,
            )
        # It begins at the end of the log that it finds.
        until("the agent tells of an answer", lambda: host.ask("begin.netmon.test") and "begin.netmon.test" in told(out))
        asked = []
        for number in range(ROUNDS):
            for question in range(QUESTIONS):
                name = f"n{number}x{question}.netmon.test"
                expect(host.ask(name), "192.0.2.1", f"the answer to {name}")
                asked.append(name)
                if question == QUESTIONS // 2:
                    rotating = host.start("logrotate", "-v", "-f", "-s", "/tmp/status", "/etc/logrotate.conf",
                                          output=(root.path / f"tmp/rotated{number}").open("w"))
            expect(rotating.wait(), 0, "logrotate's exit code")
            said = (root.path / f"tmp/rotated{number}").read_text()
            expect([line for line in said.splitlines() if "error" in line.lower()], [], "what logrotate complains of")
            expect(host.do("stat", "-c", "%a %U:%G", LOG).strip(), "640 dnsmasq:adm", "the log after a rotation")
        until("each answer", lambda: set(asked) <= set(told(out)))
        heard = [name for name in told(out) if name in set(asked)]
        expect(sorted(heard), sorted(asked), "the answers that the agent told of, each once")
        kept = sorted(path.name for path in (root.path / "var/log").glob("dnsmasq.log*"))
        expect(kept, ["dnsmasq.log", "dnsmasq.log.1", "dnsmasq.log.2.gz", "dnsmasq.log.3.gz"], "the logs that are kept")
    (root.path / "etc/logrotate.d/netmon-dnsmasq").unlink()
    print(f"the agent told of {len(heard)} answers over {ROUNDS} rotations, each once")
