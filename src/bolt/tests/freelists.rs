//! Freelists: every page is in use or free, and none is both.

use super::files::*;
use crate::bolt::format::{COUNT_ELSEWHERE, FLAG_FREELIST, FLAG_LEAF, PAGE_FIRST};

/// Where entry `index` of the freelist on page 2 is.
fn entry(index: usize) -> usize {
    Image::at(PAGE_FIRST) + 16 + index * 8
}

/// The sample with five pages nobody uses behind it, and what its freelist says.
fn listing(entries: impl FnOnce(&[u64]) -> Vec<u64>) -> Image {
    let mut image = sample();
    let free: Vec<u64> = (0..5).map(|_| image.append_leaf()).collect();
    let entries = entries(&free);
    image.change_header(PAGE_FIRST, |header| header.count = entries.len() as u16);
    for (index, id) in entries.iter().enumerate() {
        image.put_u64(entry(index), *id);
    }
    image
}

fn free_pages(image: &Image) -> u64 {
    read(&image.bytes).expect("it is sound").1.free_pages
}

#[test]
fn pages_that_are_free_are_counted() {
    assert_eq!(free_pages(&sample()), 0);
    assert_eq!(free_pages(&listing(<[u64]>::to_vec)), 5);
    // Without a freelist, as etcd writes it, what is not in use is free, the list's page too.
    assert_eq!(free_pages(&listing(<[u64]>::to_vec).without_freelist()), 6);
    // With a count of 65535 the first entry is the count.
    let mut image = listing(|free| [&[free.len() as u64], free].concat());
    image.change_header(PAGE_FIRST, |header| header.count = COUNT_ELSEWHERE);
    assert_eq!(free_pages(&image), 5);
}

#[test]
fn a_freelist_may_be_longer_than_a_page() {
    let mut image = sample();
    let free: Vec<u64> = (0..600).map(|_| image.append_leaf()).collect();
    let list = image.append(FLAG_LEAF, &[(0, b"k", &[0; 5000])]);
    image.change_header(list, |header| (header.flags, header.count) = (FLAG_FREELIST, 601));
    image.put_u64(Image::at(list) + 16, PAGE_FIRST);
    for (index, id) in free.iter().enumerate() {
        image.put_u64(Image::at(list) + 24 + index * 8, *id);
    }
    image.change_meta(|meta| meta.freelist = Some(list));
    assert_eq!(free_pages(&image), 601);
    image.change_header(list, |header| header.overflow = 0);
    let said = format!("page {list}: freelist has no room for its 601 entries");
    assert_eq!(image.refusal(), said);
}

#[test]
fn pages_that_are_both_or_neither() {
    let first = |image: &Image| image.leaves(image.root("key"))[0];
    let used = first(&sample());
    let said = format!("page {used}: is in use and in the freelist");
    assert_eq!(listing(|free| [&[used], free].concat()).refusal(), said);
    let lost = sample().meta().high_water + 2;
    let said = format!("page {lost}: is neither in use nor in the freelist");
    assert_eq!(listing(|free| vec![free[0], free[1], free[3], free[4]]).refusal(), said);
    // A page that nobody points to any more.
    let mut image = sample();
    let (old, new) = (image.root("meta"), image.append_leaf());
    image.put_u64(image.bucket_at("meta"), new);
    assert_eq!(image.refusal(), format!("page {old}: is neither in use nor in the freelist"));
    // The list on a page of a tree, which is left as it was.
    let mut image = sample();
    image.change_meta(|meta| meta.freelist = Some(used));
    assert_eq!(image.refusal(), format!("page {used}: is reached twice"));
}

#[test]
fn entries_that_cannot_be() {
    let high_water = sample().meta().high_water + 5;
    type Entries = fn(&[u64]) -> Vec<u64>;
    let cases: [(Entries, u64); 7] = [
        (|free| [&[0], free].concat(), 0),
        (|free| [&[1], free].concat(), 0),
        (|free| [free, &[free[4] + 1]].concat(), 5),
        (|free| [free, &[u64::MAX]].concat(), 5),
        (|free| [free, &[free[4]]].concat(), 5),
        (|free| vec![free[0], free[2], free[1]], 2),
        (|free| vec![free[0], free[0]], 1),
    ];
    for (entries, index) in cases {
        let image = listing(entries);
        assert_eq!(image.meta().high_water, high_water);
        let said = format!("page 2: freelist entry {index} is out of order or out of range");
        assert_eq!(image.refusal(), said);
    }
}

#[test]
fn counts_that_do_not_fit() {
    // A page has room for 510 entries, and for one less behind a count.
    for (count, first, said) in [
        (511, 3, 511),
        (COUNT_ELSEWHERE - 1, 3, 65534),
        (COUNT_ELSEWHERE, 510, 510),
        (COUNT_ELSEWHERE, 1 << 61, 1 << 61),
        (COUNT_ELSEWHERE, u64::MAX, u64::MAX),
    ] {
        let mut image = listing(<[u64]>::to_vec);
        image.change_header(PAGE_FIRST, |header| header.count = count);
        image.put_u64(entry(0), first);
        let said = format!("page 2: freelist has no room for its {said} entries");
        assert_eq!(image.refusal(), said);
    }
}

#[test]
fn a_list_that_is_none() {
    let mut image = sample();
    image.change_header(PAGE_FIRST, |header| header.flags = FLAG_LEAF);
    assert_eq!(image.refusal(), "page 2: has unexpected flags 0x2");
    for page in [0, 1, 1 << 40] {
        let mut image = sample();
        image.change_meta(|meta| meta.freelist = Some(page));
        let high_water = image.meta().high_water;
        let said = format!("is outside the file, which ends before page {high_water}");
        assert_eq!(image.refusal(), format!("page {page}: {said}"));
    }
}
