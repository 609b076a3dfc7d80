#!/usr/bin/env python3
"""TLS to Postgres, which the packages' server has built in: postgres_tls.py SERVER

Starts a Postgres of its own that takes TLS alone over TCP, with a certificate that the program itself makes, and
connects in the ways that libpq knows.
"""
import glob, os, pwd, shutil, socket, subprocess, sys, tempfile, time

server = os.path.abspath(sys.argv[1])
bin = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
work = tempfile.mkdtemp(prefix="netmon-pg-tls-", dir="/tmp")
os.chmod(work, 0o755)
# Postgres refuses to run as root.
owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
as_owner = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}


def run(*args, **options):
    return subprocess.run(args, capture_output=True, text=True, cwd=work, **options)


def certificate(name):
    """A CA and a certificate of localhost below it."""
    made = run(server, "cert", "--data", f"{work}/{name}", "--name", "localhost")
    assert made.returncode == 0, made.stderr
    return f"{work}/{name}/tls"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main():
    tls, other = certificate("ours"), certificate("another")
    data, port = f"{work}/data", free_port()
    if owner:
        os.chown(work, owner.pw_uid, owner.pw_gid)
    made = run(f"{bin}/initdb", "--username=netmon", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8",
               "-D", data, **as_owner)
    assert made.returncode == 0, made.stderr
    with open(f"{data}/pg_hba.conf", "w") as rules:
        rules.write("hostssl all all 127.0.0.1/32 trust\n")
    for part in ("server.pem", "server.key"):
        shutil.copy(f"{tls}/{part}", f"{data}/{part}")
        os.chmod(f"{data}/{part}", 0o600)
        if owner:
            os.chown(f"{data}/{part}", owner.pw_uid, owner.pw_gid)
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off", "ssl": "on",
               "ssl_cert_file": "server.pem", "ssl_key_file": "server.key"}
    words = [word for option in options.items() for word in ("-c", "=".join(map(str, option)))]
    postgres = subprocess.Popen([f"{bin}/postgres", "-D", data, *words], cwd=work, stderr=open(f"{work}/log", "w"), **as_owner)
    try:
        def migrate(parameters):
            return run(server, "migrate", "--database-url", f"postgres://netmon@localhost:{port}/postgres?hostaddr=127.0.0.1&{parameters}")

        strict = f"sslmode=verify-full&sslrootcert={tls}/ca.pem"
        for _ in range(200):
            done = migrate(strict)
            if done.returncode == 0:
                break
            assert postgres.poll() is None, open(f"{work}/log").read()
            time.sleep(0.1)
        assert done.returncode == 0, done.stderr
        assert migrate("sslmode=require").returncode == 0
        for parameters, reason in [
            (f"sslmode=verify-full&sslrootcert={other}/ca.pem", "certificate verify failed"),
            ("sslmode=disable", "no encryption"),
        ]:
            refused = migrate(parameters)
            assert refused.returncode == 1 and reason in refused.stderr, (parameters, refused)
        print("TLS to Postgres: connects, and refuses a wrong CA and no TLS")
    finally:
        postgres.terminate()
        postgres.wait()
        shutil.rmtree(work)


main()
