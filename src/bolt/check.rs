//! The consistency of a whole file: every page is accounted for, once.
//!
//! A walk proves the trees sound and remembers where it has been (see `tree`). What remains is to
//! hold that against the freelist: a page is in use or free, never both, and, when the freelist
//! was written, never neither. Without a written freelist, what is not in use is free.
//!
//! The first fault ends the check: a snapshot with one is not used, however many more it has.

use super::error::{Damage, Error};
use super::format::{
    COUNT_ELSEWHERE, FLAG_FREELIST, PAGE_FIRST, PAGE_HEADER_BYTES, PageHeader, u64_at,
};
use super::reader::{Reader, Seen};

/// What a sound file consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub buckets: u64,
    pub rows: u64,
    /// Pages below the high water mark that nothing uses.
    pub free_pages: u64,
}

/// Walks and accounts for the whole file.
pub fn check(reader: &Reader) -> Result<Report, Error> {
    reader.walk().finish()
}

/// Accounts for all pages, after `used` was reached from the root.
pub(super) fn account(
    reader: &Reader,
    mut used: Seen,
    mut report: Report,
) -> Result<Report, Error> {
    let free = match reader.meta().freelist {
        Some(page) => Some(read_freelist(reader, page, &mut used)?),
        None => None,
    };
    for page in PAGE_FIRST..reader.meta().high_water {
        let is_free = free.as_ref().map(|free| free.contains(page));
        match (used.contains(page), is_free) {
            (true, Some(true)) => return Err(reader.damaged(page, Damage::ReachableFree)),
            (false, Some(false)) => return Err(reader.damaged(page, Damage::Lost)),
            (true, Some(false) | None) => {}
            (false, Some(true) | None) => report.free_pages += 1,
        }
    }
    Ok(report)
}

/// The pages in the freelist that starts on `page`.
fn read_freelist(reader: &Reader, page: u64, used: &mut Seen) -> Result<Seen, Error> {
    let refuse = |damage| reader.damaged(page, damage);
    let (header, bytes) = reader.load(page, used)?;
    let PageHeader { flags, count, .. } = header;
    if flags != FLAG_FREELIST {
        return Err(refuse(Damage::WrongKind { flags }));
    }
    let entry = |index: u64| u64_at(&bytes, PAGE_HEADER_BYTES + index as usize * 8);
    let short = |count| refuse(Damage::FreelistSize { count });
    let (start, count) = match count {
        COUNT_ELSEWHERE => (1, entry(0).ok_or_else(|| short(1))?),
        count => (0, u64::from(count)),
    };
    let room = (bytes.len() - PAGE_HEADER_BYTES) as u64 / 8 - start;
    if count > room {
        return Err(short(count));
    }
    let mut free = Seen::new(reader.meta());
    let mut from = PAGE_FIRST;
    for index in 0..count {
        let wrong = || refuse(Damage::FreelistEntry { index });
        let id = entry(start + index).ok_or_else(wrong)?;
        if id < from || id >= reader.meta().high_water {
            return Err(wrong());
        }
        free.claim(id..=id).map_err(|_| wrong())?;
        from = id + 1;
    }
    Ok(free)
}
