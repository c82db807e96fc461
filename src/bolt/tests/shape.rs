//! Where the writer puts rows: full leaves, branches of two children and more, nothing left over.

use super::files::*;
use crate::bolt::format::{FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, PAGE_BYTES, PAGE_FIRST};

/// The pages of trees as they lie in a file.
fn tree_pages(image: &Image) -> Vec<u64> {
    let (mut pages, mut page) = (Vec::new(), PAGE_FIRST + 1);
    while page < image.meta().high_water {
        pages.push(page);
        page += u64::from(image.header(page).overflow) + 1;
    }
    assert_eq!(page, image.meta().high_water, "the last page ends the file");
    pages
}

/// Holds the file made of tables to what the writer promises of every file.
pub fn is_well_shaped(tables: &Tables) {
    let image = Image::of(tables);
    let meta = image.meta();
    assert_eq!(image.bytes.len(), Image::at(meta.high_water), "the file ends with its last page");
    assert_eq!((meta.freelist, meta.page_bytes), (Some(PAGE_FIRST), PAGE_BYTES as u32));
    let freelist = image.header(PAGE_FIRST);
    assert_eq!((freelist.flags, freelist.count), (FLAG_FREELIST, 0), "no page is free");
    for page in tree_pages(&image) {
        let header = image.header(page);
        assert_eq!(header.id, page);
        let extent = (header.overflow as usize + 1) * PAGE_BYTES;
        let used = image.used_bytes(page);
        assert!(used <= extent && used + PAGE_BYTES > extent, "page {page} has pages too many");
        let rest = Image::at(page) + used..Image::at(page) + extent;
        assert!(image.bytes[rest].iter().all(|byte| *byte == 0), "page {page} ends in garbage");
        match header.flags {
            FLAG_BRANCH => {
                // bbolt stops the process when it shrinks a page that has no sibling.
                assert!(header.count >= 2, "branch {page} has {} children", header.count);
                for (index, child) in image.children(page).into_iter().enumerate() {
                    let (from, end) = (image.key_at(page, index), image.ends_at(page, index).0);
                    let (first, first_end) = (image.key_at(child, 0), image.ends_at(child, 0).0);
                    assert_eq!(image.bytes[from..end], image.bytes[first..first_end]);
                }
            }
            flags => assert_eq!(flags, FLAG_LEAF, "page {page}"),
        }
    }
    for name in tables.keys() {
        let name = std::str::from_utf8(name).expect("names are text");
        let leaves = image.leaves(image.root(name));
        for leaf in &leaves[..leaves.len() - 1] {
            let pages = image.header(*leaf).overflow as usize + 1;
            let is_filled = image.used_bytes(*leaf) * 8 >= pages * PAGE_BYTES * 7;
            assert!(is_filled || pages >= 8, "leaf {leaf} of {name} wastes more than an eighth");
        }
    }
}

/// Elements and pages of each leaf of a table with rows of these sizes.
fn leaves(value_bytes: &[usize]) -> Vec<(usize, u32)> {
    let tables = tables([("key", rows_of(value_bytes.iter().copied()))]);
    is_well_shaped(&tables);
    let image = Image::of(&tables);
    let leaves = image.leaves(image.root("key")).into_iter();
    leaves.map(|leaf| (image.count(leaf), image.header(leaf).overflow + 1)).collect()
}

/// A row of 17 bytes of key takes 16 more for its element, and a page has 16 of its own.
const OVERHEAD: usize = 17 + 16;

#[test]
fn a_page_is_used_to_its_last_byte() {
    let room = PAGE_BYTES - 16;
    // One row.
    assert_eq!(leaves(&[room - OVERHEAD]), [(1, 1)]);
    assert_eq!(leaves(&[room - OVERHEAD + 1]), [(1, 2)]);
    assert_eq!(leaves(&[PAGE_BYTES + room - OVERHEAD]), [(1, 2)]);
    assert_eq!(leaves(&[PAGE_BYTES + room - OVERHEAD + 1]), [(1, 3)]);
    // Sixty rows of 68 bytes are a page; one byte more and the last is on the next.
    assert_eq!(60 * 68, room);
    let mut sizes = vec![68 - OVERHEAD; 61];
    assert_eq!(leaves(&sizes[..60]), [(60, 1)]);
    assert_eq!(leaves(&sizes), [(60, 1), (1, 1)]);
    sizes[30] += 1;
    assert_eq!(leaves(&sizes), [(59, 1), (2, 1)]);
}

#[test]
fn a_leaf_takes_another_row_rather_than_waste_an_eighth() {
    // A row of just over half a page: seven to four pages, not one to each.
    assert_eq!(leaves(&[2100; 16]), [(7, 4), (7, 4), (2, 2)]);
    // A row of many pages takes in what comes before it, and nothing behind it.
    assert_eq!(leaves(&[300, 101_800, 300, 300]), [(2, 25), (2, 1)]);
    assert_eq!(leaves(&[]), [(0, 1)]);
}

/// How many children each branch just above the leaves has, if a leaf has one row.
fn branches(leaves: usize) -> Vec<usize> {
    // Keys of 18 bytes take 34 in a branch: 120 are a page.
    let key = |n: usize| format!("{n:018}").into_bytes();
    let rows = (0..leaves).map(|n| (key(n), vec![0; 4000])).collect();
    let tables = tables([("key", rows)]);
    is_well_shaped(&tables);
    let image = Image::of(&tables);
    let root = image.root("key");
    assert_eq!(image.leaves(root).len(), leaves);
    let counts = |pages: Vec<u64>| pages.into_iter().map(|page| image.count(page)).collect();
    match image.header(root).flags {
        FLAG_LEAF => vec![],
        _ if image.header(image.children(root)[0]).flags == FLAG_LEAF => counts(vec![root]),
        _ => counts(image.children(root)),
    }
}

/// A branch with a single child has no sibling for it to be merged with: etcd dies of it at the
/// compaction that reaches it.
#[test]
fn the_last_branch_borrows_a_child_if_it_has_one() {
    assert!(branches(1).is_empty());
    assert_eq!(branches(2), [2]);
    assert_eq!(branches(119), [119]);
    assert_eq!(branches(120), [120]);
    assert_eq!(branches(121), [119, 2]);
    assert_eq!(branches(122), [120, 2]);
    assert_eq!(branches(240), [120, 120]);
    assert_eq!(branches(241), [120, 119, 2]);
    assert_eq!(branches(242), [120, 120, 2]);
}

#[test]
fn branches_of_all_levels_have_two_children() {
    // Three children fill a branch, so every number of rows leaves another rest on some level.
    let wide = |n: usize| (format!("{n:01300}").into_bytes(), Vec::new());
    for count in (0..200).chain([243, 244, 729, 730, 731, 2187, 2188]) {
        is_well_shaped(&tables([("key", (0..count).map(wide).collect())]));
    }
    // The longest keys there are: a branch of three of them is 25 pages long.
    let widest = |n: usize| (format!("{n:032768}").into_bytes(), Vec::new());
    for count in 1..15 {
        is_well_shaped(&tables([("key", (0..count).map(widest).collect())]));
    }
}

#[test]
fn both_metas_say_the_same_but_for_their_transaction() {
    let image = sample();
    let mut first = image.clone();
    first.put(Image::at(1), &[0; 80]);
    let mut second = image.clone();
    second.put(Image::at(0), &[0; 80]);
    let (first, second) = (first.meta(), second.meta());
    assert_eq!((first.transaction, second.transaction), (0, 1));
    assert_eq!((first.root, first.high_water), (second.root, second.high_water));
}
