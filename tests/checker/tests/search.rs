//! The search judged: it agrees with one that tries everything, and knows where it must stop.

use rand::prelude::*;
use rand::rngs::SmallRng;

use super::generate;
use crate::checker::history::{History, Op, Outcome, parse};
use crate::checker::replay::Store;
use crate::checker::search::{LIMITS, Limits, Verdict, search};

/// Whether there is an order, found without any cleverness, on the other judge's model.
fn exists(ops: &[Op], left: &[usize], store: &Store, revision: i64) -> bool {
    let heard = |place: &&usize| ops[**place].answer().is_some();
    if !left.iter().any(|place| heard(&place)) {
        return true;
    }
    let first_end = left.iter().filter(heard).filter_map(|place| ops[*place].end).min();
    left.iter().enumerate().any(|(at, place)| {
        let op = &ops[*place];
        if first_end.is_some_and(|end| op.call > end) {
            return false;
        }
        let (events, reply) = store.run(revision + 1, &op.request);
        let revision = revision + i64::from(!events.is_empty());
        let answer = op.answer();
        if answer.is_some_and(|heard| heard.reply != reply || heard.revision != revision) {
            return false;
        }
        let (mut store, mut left) = (store.clone(), left.to_vec());
        store.apply(revision, &events).expect("what it made itself");
        left.remove(at);
        exists(ops, &left, &store, revision)
    })
}

fn judged_by_trying(history: &History) -> bool {
    let relevant = |place: &usize| {
        let op = &history.ops[*place];
        !op.request.may_lag() && !matches!(op.outcome, Outcome::Refused)
    };
    let left: Vec<usize> = (0..history.ops.len()).filter(relevant).collect();
    exists(&history.ops, &left, &Store::default(), 1)
}

/// A short history, with something wrong in it perhaps.
fn short(seed: u64) -> History {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut history = generate::history(seed, random.random_range(3..9));
    // What else was shown would be evidence that the other search does not know of.
    history.watches.clear();
    history.ops.retain(|op| op.end.is_some() && !op.request.may_lag());
    if history.ops.is_empty() {
        return history;
    }
    for _ in 0..random.random_range(0..4) {
        let number = random.random_range(0..history.ops.len());
        let other = random.random_range(0..history.ops.len());
        let outcome = history.ops[other].outcome.clone();
        let op = &mut history.ops[number];
        match (random.random_range(0..5), &mut op.outcome) {
            (0, _) => op.outcome = Outcome::Unknown,
            (1, Outcome::Answered(answer)) => answer.revision += random.random_range(-1..2),
            (2, Outcome::Answered(_)) => op.outcome = outcome,
            (3, _) => op.call = op.call.saturating_sub(100),
            (_, _) => op.end = op.end.map(|end| end + random.random_range(0..100)),
        }
    }
    history
}

#[test]
fn the_search_agrees_with_one_that_tries_everything() {
    let mut linearizable = 0;
    for seed in 0..4_000 {
        let history = short(seed);
        let wanted = judged_by_trying(&history);
        let opinion = search(&history, LIMITS);
        assert_ne!(opinion.verdict, Verdict::Inconclusive, "seed {seed}");
        let said = opinion.verdict == Verdict::Linearizable;
        assert_eq!(said, wanted, "seed {seed}: {opinion:?}: {:#?}", history.ops);
        linearizable += u32::from(said);
    }
    assert!((800..3_200).contains(&linearizable), "{linearizable} of 4000 were linearizable");
}

#[test]
fn the_search_finds_an_order_of_true_histories() {
    for seed in 0..60 {
        let opinion = search(&generate::history(seed, 600), LIMITS);
        assert_eq!(opinion.verdict, Verdict::Linearizable, "seed {seed}: {opinion:?}");
        assert!(opinion.operations > 400 && opinion.steps < 100_000, "seed {seed}: {opinion:?}");
    }
}

/// The beginning of a true history is one.
#[test]
fn the_search_judges_the_beginning_of_a_long_history() {
    for operations in [1, 10, 100, 333] {
        let opinion = search(&generate::history(7, 600), Limits { operations, ..LIMITS });
        assert_eq!(opinion.verdict, Verdict::Linearizable, "{operations}: {opinion:?}");
        assert_eq!(opinion.operations, operations);
    }
}

/// An operation by hand: its call, return, request and outcome.
type ByHand<'a> = (u64, u64, &'a str, &'a str);

fn by_hand(ops: &[ByHand<'_>]) -> Verdict {
    let mut text = String::new();
    for (call, end, request, outcome) in ops {
        text += &format!(
            "{{\"op\":{{\"client\":1,\"call\":{call},\"return\":{end},\
             \"request\":{request},\"outcome\":{outcome}}}}}\n"
        );
    }
    let history = parse(text.as_bytes()).expect("well-formed lines");
    search(&history, Limits { steps: 20_000, ..LIMITS }).verdict
}

const PUT: &str = r#"{"put":{"key":"a","value":"1"}}"#;
const PUT_2: &str = r#"{"put":{"key":"a","value":"2"}}"#;
const DELETE: &str = r#"{"delete":{"key":"a"}}"#;
const GET: &str = r#"{"range":{"key":"a"}}"#;
const UNKNOWN: &str = r#""unknown""#;
const DONE_AT_2: &str = r#"{"answered":{"revision":2,"reply":"put"}}"#;
const DONE_AT_3: &str = r#"{"answered":{"revision":3,"reply":"put"}}"#;
const NOTHING_AT_1: &str = r#"{"answered":{"revision":1,"reply":{"range":{"count":0,"rows":[]}}}}"#;
const NOTHING_AT_3: &str = r#"{"answered":{"revision":3,"reply":{"range":{"count":0,"rows":[]}}}}"#;
const ONE_AT_2: &str = r#"{"answered":{"revision":2,"reply":{"range":{"count":1,"rows":[
    {"key":"a","value":"1","create":2,"mod":2,"version":1}]}}}}"#;
const TWO_AT_3: &str = r#"{"answered":{"revision":3,"reply":{"range":{"count":1,"rows":[
    {"key":"a","value":"2","create":2,"mod":3,"version":2}]}}}}"#;

fn line(text: &str) -> String {
    text.replace('\n', " ")
}

#[test]
fn histories_that_have_an_order() {
    let (one_at_2, two_at_3) = (line(ONE_AT_2), line(TWO_AT_3));
    let cases: [(&str, &[ByHand<'_>]); 7] = [
        ("nothing", &[]),
        ("a read during a write sees it", &[(1, 9, PUT, DONE_AT_2), (2, 3, GET, &one_at_2)]),
        ("or does not", &[(1, 9, PUT, DONE_AT_2), (2, 3, GET, NOTHING_AT_1)]),
        ("a lost write was done", &[(1, 2, PUT, UNKNOWN), (5, 6, GET, &one_at_2)]),
        ("a lost write was not done yet", &[(1, 2, PUT, UNKNOWN), (5, 6, GET, NOTHING_AT_1)]),
        (
            "a lost write was done long after its client gave up",
            &[(1, 2, PUT_2, UNKNOWN), (5, 6, PUT, DONE_AT_2), (7, 8, GET, &two_at_3)],
        ),
        (
            "nobody saw what made a revision",
            &[(1, 2, PUT, UNKNOWN), (1, 2, DELETE, UNKNOWN), (5, 6, GET, NOTHING_AT_3)],
        ),
    ];
    for (name, ops) in cases {
        assert_eq!(by_hand(ops), Verdict::Linearizable, "{name}");
    }
}

#[test]
fn histories_that_have_none() {
    let (one_at_2, two_at_3) = (line(ONE_AT_2), line(TWO_AT_3));
    let cases: [(&str, &[ByHand<'_>]); 7] = [
        ("a stale read", &[(1, 2, PUT, DONE_AT_2), (3, 4, GET, NOTHING_AT_1)]),
        ("a read of the future", &[(1, 2, GET, &one_at_2), (3, 4, PUT, DONE_AT_2)]),
        ("one revision twice", &[(1, 9, PUT, DONE_AT_2), (1, 9, PUT_2, DONE_AT_2)]),
        ("a revision that nobody made", &[(1, 9, PUT, DONE_AT_3)]),
        (
            "a read that goes back",
            &[
                (1, 9, PUT, DONE_AT_2),
                (1, 9, PUT_2, DONE_AT_3),
                (2, 3, GET, &two_at_3),
                (4, 5, GET, &one_at_2),
            ],
        ),
        ("a refused write was done", &[(1, 2, PUT, r#""refused""#), (3, 4, GET, &one_at_2)]),
        ("a lost write done before its call", &[(1, 2, GET, &one_at_2), (3, 4, PUT, UNKNOWN)]),
    ];
    for (name, ops) in cases {
        assert!(matches!(by_hand(ops), Verdict::Impossible(_)), "{name}");
    }
}

/// Many deletes of which nobody heard, and a state that none of them leads to.
#[test]
fn a_search_that_takes_too_long_says_so() {
    let put = |key: u32| format!(r#"{{"put":{{"key":"k{key}","value":"v{key}"}}}}"#);
    let puts: Vec<String> = (0..30).map(put).collect();
    let mut ops: Vec<ByHand<'_>> = puts.iter().map(|put| (1, 2, put.as_str(), UNKNOWN)).collect();
    let nothing = r#"{"answered":{"revision":16,"reply":{"range":{"count":0,"rows":[]}}}}"#;
    ops.push((5, 6, r#"{"range":{"key":"k","end":"l"}}"#, nothing));
    assert_eq!(by_hand(&ops), Verdict::Inconclusive);
}
