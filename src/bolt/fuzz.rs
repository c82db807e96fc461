//! The body of the fuzz target `bolt_file`.

use super::format::{Meta, PAGE_BYTES_MIN, PAGE_FIRST, u64_at};
use super::reader::{ReadAt, Reader};
use super::{check, trailer};

/// Opens `bytes` as a file and reads everything in it, as it is and mended. Whatever they are, this
/// returns; and it holds a walk to its promises.
pub fn fuzz_read(bytes: &[u8]) {
    let source: &dyn ReadAt = &bytes;
    if let Ok(covered) = trailer::verify(source) {
        assert_eq!(covered + trailer::TRAILER_BYTES, bytes.len() as u64);
    }
    if let Ok(reader) = Reader::open(source) {
        read(&reader, bytes.len());
    }
    if let Some(mended) = mended(bytes) {
        let source = &mended[..];
        let reader = Reader::open(&source).expect("a mended file opens");
        read(&reader, bytes.len());
    }
}

fn read(reader: &Reader, file_bytes: usize) {
    assert!(reader.size_bytes() <= file_bytes as u64, "nothing outside the file is read");
    let mut size_bytes = 0;
    let mut walked = true;
    for item in reader.walk() {
        match item {
            Ok(super::Item::Bucket(name)) => size_bytes += name.len(),
            Ok(super::Item::Row { key, value }) => size_bytes += key.len() + value.len(),
            Err(_) => walked = false,
        }
    }
    assert!(size_bytes <= file_bytes, "no byte of a file is read as two rows");
    assert!(walked || check(reader).is_err(), "what cannot be walked is not sound");
}

/// The bytes with metas that are valid and pages that have their own ids, for chance alone finds
/// neither a checksum nor what is behind it. The first bytes choose sizes and roots.
pub(crate) fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let page_bytes = PAGE_BYTES_MIN << (bytes.first()? % 3);
    let pages = bytes.len() as u64 / page_bytes;
    if pages <= PAGE_FIRST {
        return None;
    }
    let any_page = |at| u64_at(bytes, at).map(|page| page % pages);
    let meta = |transaction| Meta {
        page_bytes: page_bytes as u32,
        root: any_page(8).unwrap_or_default(),
        freelist: any_page(16).filter(|page| *page >= PAGE_FIRST),
        high_water: pages,
        transaction,
    };
    let mut bytes = bytes.to_vec();
    for id in 0..pages {
        let page = &mut bytes[(id * page_bytes) as usize..];
        if id < PAGE_FIRST {
            let meta = meta(id).encode(id);
            page[..meta.len()].copy_from_slice(&meta);
        } else {
            page[..8].copy_from_slice(&id.to_le_bytes());
        }
    }
    Some(bytes)
}
