//! The kernel settings without which the numbers would be poor.

use std::{fs, path::Path};

/// Where they are, for this network namespace.
pub(crate) const DIRECTORY: &str = "/proc/sys/net/netfilter";

struct Setting {
    file: &'static str,
    /// What goes wrong without it.
    without: &'static str,
}

const SETTINGS: [Setting; 3] = [
    Setting { file: "nf_conntrack_acct", without: "connections have no byte and packet counters" },
    Setting {
        file: "nf_conntrack_timestamp",
        without: "the beginning of a connection is known to a few seconds only",
    },
    Setting { file: "nf_conntrack_events", without: "connections that begin while no agent runs end unseen" },
];

/// Sets them to 1 if `set`, and says what is not as it should be, one sentence each with the remedy. Whoever
/// asks again later without `set` learns what another program made of them.
///
/// nf_conntrack_events=2, the default of newer kernels, means "only for connections that begin while
/// somebody listens", which is why it is not good enough.
pub(crate) fn apply(directory: &Path, set: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    for Setting { file, without } in SETTINGS {
        let path = directory.join(file);
        let Ok(value) = fs::read_to_string(&path) else {
            warnings.push(format!("this kernel does not offer net.netfilter.{file}: {without}"));
            continue;
        };
        if value.trim() == "1" || set && fs::write(&path, "1\n").is_ok() {
            continue;
        }
        let (value, remedy) = (value.trim(), format!("set it with: sysctl -w net.netfilter.{file}=1"));
        warnings.push(format!("net.netfilter.{file} is {value}: {without}; {remedy}"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        for (file, value) in
            [("nf_conntrack_acct", "0\n"), ("nf_conntrack_timestamp", "1\n"), ("nf_conntrack_events", "2\n")]
        {
            fs::write(directory.path().join(file), value).unwrap();
        }
        insta::assert_debug_snapshot!(apply(directory.path(), false), @r#"
        [
            "net.netfilter.nf_conntrack_acct is 0: connections have no byte and packet counters; set it with: sysctl -w net.netfilter.nf_conntrack_acct=1",
            "net.netfilter.nf_conntrack_events is 2: connections that begin while no agent runs end unseen; set it with: sysctl -w net.netfilter.nf_conntrack_events=1",
        ]
        "#);
        assert_eq!(apply(directory.path(), true), Vec::<String>::new());
        for setting in SETTINGS {
            assert_eq!(fs::read_to_string(directory.path().join(setting.file)).unwrap(), "1\n");
        }
    }

    #[test]
    fn says_what_the_kernel_lacks() {
        let directory = tempfile::tempdir().unwrap();
        let warnings = apply(directory.path(), true);
        assert_eq!(warnings.len(), SETTINGS.len());
        assert!(warnings[0].contains("does not offer net.netfilter.nf_conntrack_acct"), "{warnings:?}");
    }
}
