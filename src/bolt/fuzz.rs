//! The body of the fuzz target `bolt_file`.

use super::reader::{ReadAt, Reader};
use super::{check, trailer};

/// Opens `bytes` as a file and reads everything in it. Whatever they are, this returns; and it
/// holds a walk to its promises.
pub fn fuzz_read(bytes: &[u8]) {
    let source: &dyn ReadAt = &bytes;
    if let Ok(covered) = trailer::verify(source) {
        assert_eq!(covered + trailer::TRAILER_BYTES, bytes.len() as u64);
    }
    let Ok(reader) = Reader::open(source) else { return };
    assert!(reader.size_bytes() <= bytes.len() as u64, "nothing outside the file is read");
    let mut size_bytes = 0;
    let mut walked = true;
    for item in reader.walk() {
        match item {
            Ok(super::Item::Bucket(name)) => size_bytes += name.len(),
            Ok(super::Item::Row { key, value }) => size_bytes += key.len() + value.len(),
            Err(_) => walked = false,
        }
    }
    assert!(size_bytes <= bytes.len(), "no byte of a file is read as two rows");
    assert!(walked || check(&reader).is_err(), "what cannot be walked is not sound");
}
