//! How much memory this process may have, and how much of it its clients.

use std::fs;
use std::path::Path;

use crate::limits;

/// What is held for clients at the most: a share of what there is, and never too little to work.
pub(super) fn for_clients() -> usize {
    let most = group(Path::new("/sys/fs/cgroup")).into_iter().chain(machine()).min();
    let share = most.map_or(0, |bytes| bytes / 100 * limits::CLIENTS_BYTES_PERCENT);
    usize::try_from(share).unwrap_or(usize::MAX).max(limits::CLIENTS_BYTES_MIN)
}

/// The memory of this machine.
fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The limit of the memory group this process is in, of the first or second kind.
fn group(root: &Path) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = text.lines().filter_map(|line| {
        // hierarchy:controllers:path
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let (folder, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            one if one.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        // In a container the group is the root of what is seen.
        let seen = [folder.join(path).join(file), folder.join(file)];
        let text = seen.iter().find_map(|file| fs::read_to_string(file).ok())?;
        // Without a limit there is a word, or a number beyond all memory.
        text.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_a_share_of_what_there_is() {
        let all = machine().expect("Linux says so");
        assert!(all > 64 << 20, "{all}");
        let share = for_clients() as u64;
        assert!(share >= limits::CLIENTS_BYTES_MIN as u64);
        assert!(share <= all.max(limits::CLIENTS_BYTES_MIN as u64), "{share} of {all}");
    }
}
