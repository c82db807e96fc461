//! The layout of a bbolt file, as numbers: sizes, flags and the meta page.
//!
//! ```text
//! file      page 0 (meta) · page 1 (meta) · pages of trees, freelist and garbage, in any order
//! page      id u64 · flags u16 · count u16 · overflow u32 · elements · keys and values
//!           (a page with overflow n continues over the n pages behind it, without headers)
//! leaf      element: flags u32 · pos u32 · key size u32 · value size u32
//! branch    element: pos u32 · key size u32 · page id u64
//!           (pos counts from the element itself to its key; a value follows its key)
//! bucket    a leaf value: root page id u64 · sequence u64; root 0 = the bucket's only page follows
//! meta      magic u32 · version u32 · page size u32 · flags u32 · root bucket (as above)
//!           · freelist page id u64 · high water page id u64 · transaction id u64 · FNV-64a u64
//! freelist  ids u64, ascending; with count 0xffff the first of them is the count
//! ```
//!
//! Invariants:
//! - All numbers are little-endian. bbolt writes the machine's own order; a file of a big-endian
//!   machine is refused by its magic.
//! - The meta page with the higher transaction id and a good checksum is the file's truth; the
//!   other one is the transaction before it.

/// The page size the writer uses, which is what etcd has on every common machine.
pub(super) const PAGE_BYTES: usize = 4096;
/// The bounds of a believable page size: bbolt itself looks for sizes from 1 KiB to 16 MiB.
pub(super) const PAGE_BYTES_MIN: u64 = 1 << 10;
pub(super) const PAGE_BYTES_MAX: u64 = 1 << 24;

pub(super) const PAGE_HEADER_BYTES: usize = 16;
/// Leaf and branch elements have the same size.
pub(super) const ELEMENT_BYTES: usize = 16;
pub(super) const BUCKET_HEADER_BYTES: usize = 16;
/// A meta page's header and content, checksum included.
pub(super) const META_BYTES: usize = PAGE_HEADER_BYTES + 64;

pub(super) const FLAG_BRANCH: u16 = 0x01;
pub(super) const FLAG_LEAF: u16 = 0x02;
pub(super) const FLAG_META: u16 = 0x04;
pub(super) const FLAG_FREELIST: u16 = 0x10;
/// Marks a leaf element whose value is a bucket.
pub(super) const FLAG_BUCKET: u32 = 0x01;

/// The longest key bbolt accepts.
pub(super) const KEY_BYTES_MAX: usize = 32768;
/// The longest value bbolt accepts.
pub(super) const VALUE_BYTES_MAX: usize = (1 << 31) - 2;
/// The first page that is not a meta page.
pub(super) const PAGE_FIRST: u64 = 2;
/// A page's count field, when the true count of a freelist stands in its first entry.
pub(super) const COUNT_ELSEWHERE: u16 = 0xffff;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// The freelist id of a file that was written without one, as etcd does.
const NO_FREELIST: u64 = u64::MAX;

/// The little-endian u16 at `at`, or nothing past the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The little-endian u32 at `at`, or nothing past the end.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The little-endian u64 at `at`, or nothing past the end.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The sixteen bytes every page starts with.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageHeader {
    pub id: u64,
    pub flags: u16,
    pub count: u16,
    pub overflow: u32,
}

impl PageHeader {
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }

    pub fn encode(&self) -> [u8; PAGE_HEADER_BYTES] {
        let mut bytes = [0; PAGE_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.flags.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.overflow.to_le_bytes());
        bytes
    }
}

/// What a meta page says about the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub page_bytes: u32,
    /// The root page of the bucket that holds the buckets.
    pub root: u64,
    /// The page of the synced freelist; `None` when free pages are known only by elimination.
    pub freelist: Option<u64>,
    /// One past the last page in use.
    pub high_water: u64,
    /// The transaction that wrote this page.
    pub transaction: u64,
}

/// Why a meta page is not one, in the order bbolt looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetaRefusal {
    Magic,
    Version,
    Checksum,
}

impl Meta {
    /// Reads the meta page at the start of `page`.
    pub(super) fn decode(page: &[u8]) -> Result<Self, MetaRefusal> {
        let body = page.get(PAGE_HEADER_BYTES..META_BYTES).ok_or(MetaRefusal::Magic)?;
        let u32_of = |at| u32_at(body, at).ok_or(MetaRefusal::Magic);
        let u64_of = |at| u64_at(body, at).ok_or(MetaRefusal::Magic);
        if u32_of(0)? != MAGIC {
            return Err(MetaRefusal::Magic);
        }
        if u32_of(4)? != VERSION {
            return Err(MetaRefusal::Version);
        }
        if u64_of(56)? != fnv64a(&body[..56]) {
            return Err(MetaRefusal::Checksum);
        }
        let freelist = u64_of(32)?;
        Ok(Self {
            page_bytes: u32_of(8)?,
            root: u64_of(16)?,
            freelist: (freelist != NO_FREELIST).then_some(freelist),
            high_water: u64_of(40)?,
            transaction: u64_of(48)?,
        })
    }

    /// The header and content of this meta page as page `id`; the rest of the page is zero.
    pub(super) fn encode(&self, id: u64) -> [u8; META_BYTES] {
        let mut bytes = [0; META_BYTES];
        let header = PageHeader { id, flags: FLAG_META, count: 0, overflow: 0 };
        bytes[..PAGE_HEADER_BYTES].copy_from_slice(&header.encode());
        let body = &mut bytes[PAGE_HEADER_BYTES..];
        body[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        body[4..8].copy_from_slice(&VERSION.to_le_bytes());
        body[8..12].copy_from_slice(&self.page_bytes.to_le_bytes());
        body[16..24].copy_from_slice(&self.root.to_le_bytes());
        body[32..40].copy_from_slice(&self.freelist.unwrap_or(NO_FREELIST).to_le_bytes());
        body[40..48].copy_from_slice(&self.high_water.to_le_bytes());
        body[48..56].copy_from_slice(&self.transaction.to_le_bytes());
        let checksum = fnv64a(&body[..56]);
        body[56..64].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// The 64-bit FNV-1a hash, bbolt's checksum of a meta page.
fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
