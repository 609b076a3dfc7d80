//! Whether a path is a mount of its own. OpenWrt puts the log into dnsmasq's jail as a single file that way;
//! where the agent sees it so too, a new file of this name is never seen.

use std::{fs, path::Path};

/// What is in the way of following renames, with the remedy.
pub(super) fn warning(path: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    is_mounted(&mounts, path).then(|| {
        format!(
            "{} is mounted as a single file: a rotation by rename cannot be followed, use copytruncate",
            path.display()
        )
    })
}

/// The fifth field is the mount point (proc(5)), with `\040` for a blank.
fn is_mounted(mounts: &str, path: &Path) -> bool {
    let path = path.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040");
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_a_mount_is_recognised() {
        let mounts = "36 35 98:0 / / rw - ext4 /dev/sda rw\n\
                      37 36 98:0 /x /var/log/dns\\040masq.log rw - ext4 /dev/sda rw\n";
        assert!(is_mounted(mounts, Path::new("/var/log/dns masq.log")));
        assert!(!is_mounted(mounts, Path::new("/var/log/dnsmasq.log")));
    }
}
