//! Pages whose elements do not fit, are out of order, or are of the wrong kind.

use super::files::*;
use super::trees::{are_refused, places};
use crate::bolt::format::{
    BUCKET_HEADER_BYTES, FLAG_BRANCH, FLAG_BUCKET, FLAG_LEAF, KEY_BYTES_MAX, PAGE_BYTES, PageHeader,
};

#[test]
fn elements_that_do_not_fit() {
    are_refused(&[
        ("more elements than a page has room for", |image| {
            let (_, leaf, _) = places(image);
            image.change_header(leaf, |header| header.count = u16::MAX);
            (leaf, "has no room for its 65535 elements".into())
        }),
        ("one element more than there is", |image| {
            // What is read as its element is the first row's key and value.
            let (_, leaf, _) = places(image);
            let count = image.header(leaf).count;
            image.change_header(leaf, |header| header.count += 1);
            image.put(Image::element(leaf, usize::from(count)), &[0; 16]);
            (leaf, "element 0 lies outside its page or over another one".into())
        }),
        ("a value that ends behind its page", |image| {
            let (_, leaf, _) = places(image);
            image.put_u32(Image::element(leaf, 2) + LEAF_VALUE_BYTES, PAGE_BYTES as u32);
            (leaf, "element 2 lies outside its page or over another one".into())
        }),
        ("sizes that do not fit into 32 bits together", |image| {
            let (_, leaf, _) = places(image);
            let last = image.count(leaf) - 1;
            for field in [LEAF_POS, LEAF_KEY_BYTES, LEAF_VALUE_BYTES] {
                image.put_u32(Image::element(leaf, last) + field, u32::MAX);
            }
            (leaf, format!("element {last} lies outside its page or over another one"))
        }),
        ("a key inside the elements", |image| {
            let (_, leaf, _) = places(image);
            image.put_u32(Image::element(leaf, 0) + LEAF_POS, 0);
            (leaf, "element 0 lies outside its page or over another one".into())
        }),
        ("a row that is another one too", |image| {
            let (_, leaf, _) = places(image);
            let pos = image.key_at(leaf, 0) - Image::element(leaf, 1);
            image.put_u32(Image::element(leaf, 1) + LEAF_POS, pos as u32);
            (leaf, "element 1 lies outside its page or over another one".into())
        }),
        ("a branch's key behind its page", |image| {
            let (_, _, branch) = places(image);
            image.put_u32(Image::element(branch, 1) + BRANCH_POS, PAGE_BYTES as u32);
            (branch, "element 1 lies outside its page or over another one".into())
        }),
        ("a row without a key", |image| {
            let (_, leaf, _) = places(image);
            image.put_u32(Image::element(leaf, 3) + LEAF_KEY_BYTES, 0);
            (leaf, "element 3 has a key of 0 bytes".into())
        }),
        ("flags that nothing has", |image| {
            let (_, leaf, _) = places(image);
            image.put_u32(Image::element(leaf, 1) + LEAF_FLAGS, 2 | FLAG_BUCKET);
            (leaf, "element 1 has unknown flags 0x3".into())
        }),
    ]);
    let long = vec![b'k'; KEY_BYTES_MAX + 1];
    let mut image = sample();
    let leaf = image.append(FLAG_LEAF, &[(0, &long[1..], b"fits")]);
    image.append_buckets(&[("key", leaf)]);
    read(&image.without_freelist().bytes).expect("the longest key fits");
    let mut image = sample();
    let leaf = image.append(FLAG_LEAF, &[(0, &long, b"does not")]);
    image.append_buckets(&[("key", leaf)]);
    assert_eq!(image.refusal(), format!("page {leaf}: element 0 has a key of 32769 bytes"));
}

#[test]
fn keys_out_of_order() {
    are_refused(&[
        ("two keys alike on a page", |image| {
            let (_, leaf, _) = places(image);
            let from = image.key_at(leaf, 1);
            let key = image.bytes[from..from + 17].to_vec();
            image.put(image.key_at(leaf, 2), &key);
            (leaf, "element 2 is not above the key before it".into())
        }),
        ("keys that descend on a page", |image| {
            let (_, leaf, _) = places(image);
            image.put(image.key_at(leaf, 4), &revision(1));
            (leaf, "element 4 is not above the key before it".into())
        }),
        ("keys that descend in a branch", |image| {
            let (_, _, branch) = places(image);
            image.put(image.key_at(branch, 2), &revision(1));
            (branch, "element 2 is not above the key before it".into())
        }),
        ("a last key that belongs on the next leaf", |image| {
            let (leaves, leaf, _) = places(image);
            let last = image.count(leaves[0]) - 1;
            let next = image.key_at(leaf, 0);
            let key = image.bytes[next..next + 17].to_vec();
            image.put(image.key_at(leaves[0], last), &key);
            (leaves[0], format!("element {last} is outside the range its parent page gives"))
        }),
        ("a first key that belongs on the leaf before", |image| {
            let (_, leaf, _) = places(image);
            image.put(image.key_at(leaf, 0), &revision(1));
            (leaf, "element 0 is outside the range its parent page gives".into())
        }),
        ("a branch's key above its child's first", |image| {
            let (leaves, leaf, branch) = places(image);
            assert_eq!(image.children(branch), leaves);
            let second = image.key_at(leaf, 1);
            let key = image.bytes[second..second + 17].to_vec();
            image.put(image.key_at(branch, 1), &key);
            // So it is also the end of the leaf before, which does not mind.
            (leaf, "element 0 is outside the range its parent page gives".into())
        }),
    ]);
}

#[test]
fn buckets_where_rows_should_be_and_the_other_way_round() {
    are_refused(&[
        ("a row among the buckets", |image| {
            let root = image.meta().root;
            image.put_u32(Image::element(root, 1) + LEAF_FLAGS, 0);
            (root, "element 1 is a row where only buckets may be".into())
        }),
        ("a bucket among the rows", |image| {
            let (_, leaf, _) = places(image);
            image.put_u32(Image::element(leaf, 3) + LEAF_FLAGS, FLAG_BUCKET);
            (leaf, "element 3 is a bucket inside a bucket, which etcd never writes".into())
        }),
        ("a bucket of half a header", |image| {
            let root = image.meta().root;
            let at = Image::element(root, 2) + LEAF_VALUE_BYTES;
            image.put_u32(at, BUCKET_HEADER_BYTES as u32 - 1);
            (root, "element 2 is a bucket without a header".into())
        }),
        ("a bucket of nothing", |image| {
            let root = image.meta().root;
            image.put_u32(Image::element(root, 2) + LEAF_VALUE_BYTES, 0);
            (root, "element 2 is a bucket without a header".into())
        }),
        ("a bucket that says its page is in it, and it is not", |image| {
            let root = image.meta().root;
            image.put_u64(image.bucket_at("meta"), 0);
            (root, "has no room for its 0 elements".into())
        }),
    ]);
}

/// The value of a bucket that carries its only page in itself.
fn inline(header: PageHeader, elements: &[u8]) -> Vec<u8> {
    [&[0; BUCKET_HEADER_BYTES][..], &header.encode(), elements].concat()
}

#[test]
fn inline_buckets_are_held_to_the_same_rules() {
    let leaf = |count| PageHeader { id: 0, flags: FLAG_LEAF, count, overflow: 0 };
    let row = |flags: u32, pos: u32, key: u32, value: u32| -> Vec<u8> {
        [flags, pos, key, value].iter().flat_map(|word| word.to_le_bytes()).collect()
    };
    let one = [row(0, 16, 1, 1), b"kv".to_vec()].concat();
    let branch = PageHeader { flags: FLAG_BRANCH, ..leaf(1) };
    let cases = [
        (inline(leaf(0), b""), None),
        (inline(leaf(1), &one), None),
        // bbolt does not look at the id of a page inside a page, and neither do we.
        (inline(PageHeader { id: 9, ..leaf(1) }, &one), None),
        (inline(branch, &one), Some("has unexpected flags 0x1")),
        (inline(leaf(2), &one), Some("has no room for its 2 elements")),
        (
            inline(leaf(1), &row(0, 16, 1, 0)),
            Some("element 0 lies outside its page or over another one"),
        ),
        (
            inline(leaf(1), &[row(FLAG_BUCKET, 16, 1, 1), b"kv".to_vec()].concat()),
            Some("element 0 is a bucket inside a bucket, which etcd never writes"),
        ),
    ];
    for (value, expected) in cases {
        let mut image = sample();
        let root = image.append(FLAG_LEAF, &[(u64::from(FLAG_BUCKET), b"key", &value)]);
        image.change_meta(|meta| meta.root = root);
        let image = image.without_freelist();
        match expected {
            None => drop(read(&image.bytes).expect("it is sound")),
            Some(what) => assert_eq!(image.refusal(), format!("page {root}: {what}")),
        }
    }
}
