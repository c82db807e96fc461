//! Trees of pages that are not where, or not what, they should be: each refused by its page.

use super::files::*;
use crate::bolt::format::{FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, FLAG_META};
use crate::bolt::{Reader, fuzz_read};

/// Changes a sound file; returns the page at fault and what is said of it.
pub type Break = fn(&mut Image) -> (u64, String);

/// Breaks the sample in each of the ways, and holds the refusals to what they should say.
pub fn are_refused(cases: &[(&str, Break)]) {
    for (name, change) in cases {
        let mut image = sample();
        let (page, what) = change(&mut image);
        assert_eq!(image.refusal(), format!("page {page}: {what}"), "{name}");
        fuzz_read(&image.bytes);
        let reader = Reader::open(&&image.bytes[..]).map(|_| ());
        assert!(reader.is_ok(), "{name}: opening looks at the metas only");
    }
}

/// The leaves of the largest table, the page of the second leaf, and the branch above.
pub fn places(image: &Image) -> (Vec<u64>, u64, u64) {
    let branch = image.root("key");
    let leaves = image.leaves(branch);
    (leaves.clone(), leaves[1], branch)
}

#[test]
fn pages_that_are_not_where_they_should_be() {
    are_refused(&[
        ("a child behind the last page", |image| {
            let (_, _, branch) = places(image);
            let high_water = image.meta().high_water;
            image.put_u64(Image::element(branch, 1) + BRANCH_CHILD, high_water);
            (high_water, format!("is outside the file, which ends before page {high_water}"))
        }),
        ("a child nowhere", |image| {
            let (_, _, branch) = places(image);
            image.put_u64(Image::element(branch, 0) + BRANCH_CHILD, u64::MAX);
            let high_water = image.meta().high_water;
            (u64::MAX, format!("is outside the file, which ends before page {high_water}"))
        }),
        ("a child that is a meta page", |image| {
            let (_, _, branch) = places(image);
            image.put_u64(Image::element(branch, 0) + BRANCH_CHILD, 1);
            let high_water = image.meta().high_water;
            (1, format!("is outside the file, which ends before page {high_water}"))
        }),
        ("a table behind the last page", |image| {
            let high_water = image.meta().high_water;
            image.put_u64(image.bucket_at("lease"), high_water + 7);
            (high_water + 7, format!("is outside the file, which ends before page {high_water}"))
        }),
        ("no root", |image| {
            image.change_meta(|meta| meta.root = 0);
            (0, format!("is outside the file, which ends before page {}", image.meta().high_water))
        }),
        ("a page with another's id", |image| {
            let (_, leaf, _) = places(image);
            image.change_header(leaf, |header| header.id += 1);
            (leaf, format!("calls itself page {}", leaf + 1))
        }),
        ("a page longer than the file", |image| {
            let (_, leaf, _) = places(image);
            image.change_header(leaf, |header| header.overflow = 1000);
            (leaf, "continues past the end of the file (overflow 1000)".into())
        }),
        ("a page longer than any number of pages", |image| {
            let (_, leaf, _) = places(image);
            image.change_header(leaf, |header| header.overflow = u32::MAX);
            (leaf, "continues past the end of the file (overflow 4294967295)".into())
        }),
    ]);
}

#[test]
fn pages_in_two_places() {
    are_refused(&[
        ("a page that continues over its neighbour", |image| {
            let (_, leaf, _) = places(image);
            image.change_header(leaf, |header| header.overflow = 1);
            (leaf + 1, "is reached twice".into())
        }),
        ("a page that continues over a page before it in the tree", |image| {
            // The second leaf in the file becomes the first in the tree, and the first covers it.
            let (leaves, leaf, branch) = places(image);
            image.put_u64(Image::element(branch, 0) + BRANCH_CHILD, leaf);
            image.put_u64(Image::element(branch, 1) + BRANCH_CHILD, leaves[0]);
            image.change_header(leaves[0], |header| header.overflow = 1);
            for index in 0..image.count(leaf) {
                image.put(image.key_at(leaf, index), &revision(index as u64 + 1));
            }
            (leaf, "is reached twice".into())
        }),
        ("two children that are one", |image| {
            let (leaves, leaf, branch) = places(image);
            image.put_u64(Image::element(branch, 2) + BRANCH_CHILD, leaf);
            assert_eq!(leaves[1], leaf);
            (leaf, "is reached twice".into())
        }),
        ("a branch that is its own child", |image| {
            let (_, _, branch) = places(image);
            image.put_u64(Image::element(branch, 0) + BRANCH_CHILD, branch);
            (branch, "is reached twice".into())
        }),
        ("a branch that is the child of its child", |image| {
            let (_, _, branch) = places(image);
            let key = revision(1);
            let elements = [(branch, &key[..], &[][..])];
            let child = image.append(FLAG_BRANCH, &elements);
            image.put_u64(Image::element(branch, 0) + BRANCH_CHILD, child);
            (branch, "is reached twice".into())
        }),
        ("two tables with one tree", |image| {
            let root = image.root("key");
            image.put_u64(image.bucket_at("meta"), root);
            (root, "is reached twice".into())
        }),
        ("a table that is the bucket of buckets", |image| {
            let root = image.meta().root;
            image.put_u64(image.bucket_at("key"), root);
            (root, "is reached twice".into())
        }),
    ]);
}

#[test]
fn pages_of_the_wrong_kind() {
    are_refused(&[
        ("a meta page in a tree", |image| {
            let (_, leaf, _) = places(image);
            image.change_header(leaf, |header| header.flags = FLAG_META);
            (leaf, "has unexpected flags 0x4".into())
        }),
        ("a freelist in a tree", |image| {
            let freelist = image.meta().freelist.expect("the writer writes one");
            image.put_u64(image.bucket_at("key"), freelist);
            assert_eq!(image.header(freelist).flags, FLAG_FREELIST);
            (freelist, "has unexpected flags 0x10".into())
        }),
        ("a branch that is a leaf too", |image| {
            let (_, _, branch) = places(image);
            image.change_header(branch, |header| header.flags = FLAG_BRANCH | FLAG_LEAF);
            (branch, "has unexpected flags 0x3".into())
        }),
        ("a page of no kind", |image| {
            let (_, leaf, _) = places(image);
            image.ruin(leaf);
            (leaf, "has unexpected flags 0x0".into())
        }),
        ("a branch without children", |image| {
            let (_, _, branch) = places(image);
            image.change_header(branch, |header| header.count = 0);
            (branch, "is a branch without children".into())
        }),
    ]);
}

/// A file whose only table is a row under so many branches of one child.
fn chain(branches: usize) -> (Image, u64) {
    let mut image = sample();
    let leaf = image.append(FLAG_LEAF, &[(0, b"k", b"v")]);
    let mut top = leaf;
    for _ in 0..branches {
        top = image.append(FLAG_BRANCH, &[(top, b"k", b"")]);
    }
    image.append_buckets(&[("key", top)]);
    (image.without_freelist(), leaf)
}

#[test]
fn a_tree_has_a_depth() {
    let (deep, _) = chain(39);
    let (found, _) = read(&deep.bytes).expect("no deeper than it may be");
    assert_eq!(found, tables([("key", Rows::from([(b"k".to_vec(), b"v".to_vec())]))]));
    let (deeper, leaf) = chain(40);
    assert_eq!(deeper.refusal(), format!("page {leaf}: lies deeper than any tree grows"));
}
