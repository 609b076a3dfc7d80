//! The commands beside `serve`, run as they are called: exit code, words, and what became of the database.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use diesel::{Connection as _, PgConnection};
use diesel_migrations::{FileBasedMigrations, MigrationHarness as _};
use netmon_server::domain::{Changes, Micros, Observed};
use netmon_server::store::{DatabaseUrl, Store};

use crate::events::{dns_response, firewall_drop, lines};
use crate::retention::{DAY, flows_at, totals};
use crate::sample::{ended, tcp};
use crate::schema::{execute, migrations};
use crate::{all_flows, opened};

pub(crate) fn program<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_netmon-server"));
    program.args(args);
    for name in ["DATABASE_URL", "NETMON_DATA", "NETMON_LOG"] {
        program.env_remove(name);
    }
    program
}

/// Exit code, stdout, stderr.
pub(crate) fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> (i32, String, String) {
    let output = program(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs it on this database and expects that it does what it is asked: no word on stderr.
fn done(command: &str, url: &DatabaseUrl) -> String {
    let (code, out, err) = run([command, "--database-url", &url.to_string()]);
    assert_eq!((code, err.as_str()), (0, ""), "{command}: {out}");
    out
}

fn now() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros().try_into().unwrap()
}

pub(crate) fn rows(url: &DatabaseUrl, table: &str) -> i64 {
    lines(url, &["count(*)"], &format!("FROM {table}"))[0].parse().unwrap()
}

/// All that this program knows, the oldest first.
fn schemas(database: &str) -> Vec<String> {
    let folders = std::fs::read_dir(migrations(database)).unwrap();
    let mut names: Vec<String> =
        folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.iter().map(|name| name.split('_').next().unwrap().to_owned()).collect()
}

/// Makes a database with all changes but the last. The schemas that this program knows.
fn make_older(url: &DatabaseUrl) -> Vec<String> {
    let database = if matches!(url, DatabaseUrl::Sqlite(_)) { "sqlite" } else { "postgres" };
    let schemas = schemas(database);
    let source = FileBasedMigrations::from_path(migrations(database)).unwrap();
    match url {
        DatabaseUrl::Sqlite(_) => {
            let mut old = crate::schema::sqlite_connection(url);
            schemas[1..].iter().for_each(|_| drop(old.run_next_migration(source.clone()).unwrap()));
        }
        DatabaseUrl::Postgres(url) => {
            let mut old = PgConnection::establish(url).unwrap();
            schemas[1..].iter().for_each(|_| drop(old.run_next_migration(source.clone()).unwrap()));
        }
    }
    schemas
}

fn versions(url: &DatabaseUrl) -> Vec<String> {
    lines(url, &["version"], "FROM __diesel_schema_migrations ORDER BY version")
}

/// An older database stays what it is, and a copy of it is the same.
pub(crate) fn what_only_reads_changes_no_schema(url: &DatabaseUrl) {
    let schemas = make_older(url);
    let [older @ .., newest] = schemas.as_slice() else { panic!("expected two schemas at least") };
    let (code, out, err) = run(["check", "--database-url", &url.to_string()]);
    let (before, version) = (older.last().unwrap(), env!("CARGO_PKG_VERSION"));
    let expected = format!(
        "netmon-server: the database {url} cannot be used: the database has schema {before}, this program knows \
         schema {newest} of netmon-server {version}: bring it up by netmon-server migrate first\n"
    );
    assert_eq!((code, out.as_str(), err), (1, "", expected));
    assert_eq!(versions(url), older);
    if let DatabaseUrl::Sqlite(path) = url {
        let copied = |name| {
            let copy = path.with_file_name(name).to_str().unwrap().to_owned();
            let (code, _, err) = run(["backup", "--database-url", &url.to_string(), &copy]);
            assert_eq!((code, err.as_str()), (0, ""));
            versions(&DatabaseUrl::Sqlite(copy.into()))
        };
        assert_eq!(copied("older.db"), older);
        execute(url, "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");
        assert_eq!(copied("newer.db").last().unwrap(), "9999");
        // What is no database of ours has no schema, and gets none.
        let empty = path.with_file_name("empty.db");
        std::fs::write(&empty, "").unwrap();
        let (code, _, err) = run(["check", "--database-url", empty.to_str().unwrap()]);
        assert!(code == 1 && err.contains("the database has no schema"), "{err}");
        assert_eq!(std::fs::metadata(&empty).unwrap().len(), 0);
    }
}

pub(crate) fn migrate_makes_a_database_or_brings_it_up_to_date(url: &DatabaseUrl) {
    if let DatabaseUrl::Sqlite(path) = url {
        let newest = schemas("sqlite").pop().unwrap();
        assert_eq!(done("migrate", url), format!("{url}: made, with schema {newest}\n"));
        std::fs::remove_file(path).unwrap();
    }
    let schemas = make_older(url);
    let [.., before, newest] = schemas.as_slice() else { panic!("expected two schemas at least") };
    assert_eq!(done("migrate", url), format!("{url}: brought from schema {before} to {newest}\n"));
    assert_eq!(versions(url), schemas);
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1)])).unwrap();
    assert_eq!(done("migrate", url), format!("{url}: has schema {newest} already\n"));
    assert_eq!(all_flows(&store).len(), 1);
}

pub(crate) fn migrate_refuses_a_newer_database(url: &DatabaseUrl) {
    drop(opened(url));
    execute(
        url,
        "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999');
         UPDATE settings SET value = '7.8.9' WHERE key = 'schema_program';",
    );
    let known = schemas("sqlite").pop().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    // Every command refuses it, and says the same.
    for command in ["migrate", "cleanup", "dns-prune", "check", "recompute-baselines"] {
        let (code, out, err) = run([command, "--database-url", &url.to_string()]);
        let expected = format!(
            "netmon-server: the database {url} cannot be used: the database has schema 9999 of netmon-server 7.8.9, \
             this program knows schema {known} of netmon-server {version}: upgrade netmon-server or restore a backup\n"
        );
        assert_eq!((code, out.as_str(), err), (1, "", expected), "{command}");
    }
    assert_eq!(versions(url).last().unwrap(), "9999");
}

/// Flows, DNS and drops, some kept long enough and some not.
fn old_and_young(url: &DatabaseUrl) -> Store {
    let (store, mut writer, router) = opened(url);
    let now = now();
    writer.commit(&flows_at(router, 1, 700, now - 31 * DAY)).unwrap();
    writer.commit(&flows_at(router, 1_000, 300, now - 29 * DAY)).unwrap();
    let drop = || firewall_drop("203.0.113.9", "192.168.1.20");
    let rest = Changes {
        drops: [91, 89].map(|ago| Observed { router, time: now - ago * DAY, what: drop() }).into(),
        dns: [31, 29].map(|ago| Observed { router, time: now - ago * DAY, what: dns_response() }).into(),
        ..Changes::default()
    };
    writer.commit(&rest).unwrap();
    store
}

/// Takes `"{rows} removed; the database had {before} bytes and has {now} now\n"` apart.
fn removed(said: &str) -> [u64; 3] {
    let words: Vec<&str> = said.split([' ', '\n']).collect();
    let shape = |words: &[&str]| {
        words.iter().filter(|word| word.parse::<u64>().is_err()).copied().collect::<Vec<_>>().join(" ")
    };
    let rows = if words[0] == "1" { "row" } else { "rows" };
    assert_eq!(shape(&words), format!("{rows} removed; the database had bytes and has now "), "{said}");
    [0, 6, 10].map(|place| words[place].parse().unwrap())
}

pub(crate) fn cleanup_takes_what_was_kept_long_enough(url: &DatabaseUrl) {
    let store = old_and_young(url);
    let before = totals(&store);
    let [rows_gone, bytes_before, bytes_now] = removed(&done("cleanup", url));
    assert!(rows_gone > 700, "{rows_gone}");
    assert!(bytes_before > 4096 && bytes_now > 4096, "{bytes_before} {bytes_now}");
    let left: Vec<i64> = all_flows(&store).iter().map(|row| row.flow.id.0).collect();
    assert_eq!(left, (1_000..1_300).rev().collect::<Vec<_>>());
    let tables = ["dns_queries", "dns_answers", "firewall_drops"];
    assert_eq!(tables.map(|table| rows(url, table)), [1; 3]);
    let after = totals(&store);
    assert_eq!((after.removed.flows, after.flows, after.agree()), (700, before.flows, true));
    assert_eq!(removed(&done("cleanup", url))[0], 0);

    // The configuration says for how long.
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("server.yaml");
    std::fs::write(&config, "retention: {flows_days: 28, dns_days: 0}\n").unwrap();
    let (code, out, err) =
        run(["cleanup", "--database-url", &url.to_string(), "--config", config.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(removed(&out)[0], 300);
    assert_eq!(all_flows(&store).len(), 0);
    assert_eq!(tables.map(|table| rows(url, table)), [1; 3]);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

/// Told on SQLite, where one writes at a time: without pauses the server would wait until it gave up.
pub(crate) fn cleanup_leaves_a_server_its_turns(url: &DatabaseUrl) {
    let (_store, mut writer, router) = opened(url);
    for day in 0..20 {
        writer.commit(&flows_at(router, 1 + day * 1_000, 1_000, now() - (60 - day) * DAY)).unwrap();
    }
    let began = Instant::now();
    let mut cleanup =
        program(["cleanup", "--database-url", &url.to_string()]).stdout(Stdio::null()).spawn().unwrap();
    let mut commits = 0;
    while cleanup.try_wait().unwrap().is_none() {
        writer.commit(&flows_at(router, 100_000 + commits * 10, 10, now())).unwrap();
        commits += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(cleanup.wait().unwrap().success());
    // Without pauses it was two or three, with them a hundred.
    assert!(commits > 20, "{commits} commits in {:?}", began.elapsed());
}

pub(crate) fn dns_prune_takes_dns_alone(url: &DatabaseUrl) {
    let store = old_and_young(url);
    // In Postgres the day goes as a whole, with the question of it and its answer.
    removed(&done("dns-prune", url));
    assert_eq!(["dns_queries", "dns_answers"].map(|table| rows(url, table)), [1; 2]);
    let young = lines(url, &["time_us"], "FROM dns_queries")[0].parse::<i64>().unwrap();
    assert!(young > now() - 30 * DAY);
    assert_eq!((all_flows(&store).len(), rows(url, "firewall_drops")), (1_000, 2));
    assert_eq!(removed(&done("dns-prune", url))[0], 0);
}

pub(crate) fn check_and_recompute_say_what_they_found(url: &DatabaseUrl) {
    let (_store, mut writer, router) = opened(url);
    writer.commit(&flows_at(router, 1, 3, now() - DAY / 2)).unwrap();
    let sound = format!("{url}: no damage, nothing that belongs to nothing, all sums agree\n");
    assert_eq!(done("check", url), sound);
    assert_eq!(done("recompute-baselines", url), "1 device with a baseline of the last 24 hours\n");
    assert_eq!(rows(url, "baselines"), 1);
    execute(url, "UPDATE flows SET host_id = 77 WHERE id = 1");
    let (code, out, err) = run(["check", "--database-url", &url.to_string()]);
    assert_eq!((code, err.as_str()), (1, ""));
    assert_eq!(out, "flows: host_id of 1 row is not in remote_hosts\n");
}

/// With the umask that lets everybody read what a program makes.
fn run_with_usual_umask(args: &[&str]) -> (i32, String, String) {
    let program = env!("CARGO_BIN_EXE_netmon-server");
    let output = Command::new("sh")
        .args(["-c", "umask 022 && exec \"$@\"", "sh", program])
        .args(args)
        .env_remove("NETMON_LOG")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What others may do with a file, and its owner.
fn mode(path: &str) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Told on SQLite.
pub(crate) fn backup_and_salvage_say_what_they_wrote(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1)])).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let name = |file: &str| directory.path().join(file).to_str().unwrap().to_owned();
    let (copy, url) = (name("copy.db"), url.to_string());
    let (code, out, err) = run_with_usual_umask(&["backup", "--database-url", &url, &copy]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(mode(&copy), 0o600);
    assert_eq!(out, format!("{copy}: {} bytes\n", std::fs::metadata(&copy).unwrap().len()));
    let copied = Store::open(&DatabaseUrl::Sqlite(copy.clone().into())).unwrap();
    assert_eq!(all_flows(&copied), all_flows(&store));
    let (code, out, err) = run(["backup", "--database-url", &url, &copy]);
    let expected = format!("netmon-server: {copy}: expected a file that does not exist\n");
    assert_eq!((code, out.as_str(), err), (2, "", expected));

    let salvage = ["check", "--database-url", &url, "--salvage", &name("new.db")];
    let (code, out, err) = run_with_usual_umask(&salvage);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(mode(&name("new.db")), 0o600);
    assert!(out.lines().any(|line| line == "flows: 1 row"), "{out}");
    assert!(out.lines().any(|line| line == "dns_queries: 0 rows"), "{out}");
}

pub(crate) fn a_wrong_call_is_one_line_and_exit_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let config = directory.path().join("server.yaml");
    std::fs::write(&config, "retention: {flow_days: 1}\n").unwrap();
    let config = config.to_str().unwrap();
    for (args, expected) in [
        (
            ["cleanup", "--data", data],
            format!("{data}/netmon.db: there is no database; name it with --data or --database-url"),
        ),
        (
            ["dns-prune", "--database-url", "/nowhere/x.db"],
            "/nowhere/x.db: there is no database; name it with --data or --database-url".to_owned(),
        ),
        (
            ["migrate", "--data", "/nowhere"],
            "/nowhere: there is no such directory; make it, or name another with --data or --database-url"
                .to_owned(),
        ),
        (
            ["migrate", "--database-url", "mysql://me:secret@db/netmon"],
            "database_url: expected sqlite:PATH, a plain path or postgres://USER:PASSWORD@HOST/NAME"
                .to_owned(),
        ),
        (
            ["cleanup", "--database-url", ""],
            "database_url: expected sqlite:PATH, a plain path or postgres://USER:PASSWORD@HOST/NAME"
                .to_owned(),
        ),
        (["cleanup", "--config", "/nowhere"], "/nowhere: No such file or directory (os error 2)".to_owned()),
    ] {
        assert_eq!(run(args), (2, String::new(), format!("netmon-server: {expected}\n")));
    }
    let (code, out, err) = run(["cleanup", "--config", config]);
    let expected =
        format!("netmon-server: {config}: retention: flow_days: unknown key; did you mean flows_days?\n");
    assert_eq!((code, out.as_str(), err), (2, "", expected));
    for args in [&["cleanup", "--frobnicate"][..], &["import"], &["no-such-command"]] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.starts_with("error: "), "{err}");
    }
    // Nothing was made.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}
