//! What holds for any input.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{duration, fuzz_flags, number, table};

/// A piece of a command line: often a known flag, sometimes with a fitting value.
fn line() -> impl Strategy<Value = String> {
    let names: Vec<&'static str> = table::flags().map(|flag| flag.name).collect();
    let value = prop_oneof![
        "[ -~]{0,12}",
        "[0-9]{1,20}",
        "-?[0-9]{1,6}(ns|us|ms|s|m|h)",
        "(http|https|unix|unixs)://[a-z0-9.\\[\\]:/]{0,12}:[0-9]{1,5}",
        "[a-z]{1,3}=http://[a-z]{1,3}:[0-9]{1,4}",
        Just("true".to_owned()),
        Just("redb".to_owned()),
    ];
    (prop::sample::select(names), value, 0..4u8).prop_map(|(name, value, form)| match form {
        0 => format!("--{name}={value}"),
        1 => format!("-{name}\n{value}"),
        2 => format!("{} {value}", name.to_uppercase().replace('-', "_")),
        _ => value,
    })
}

proptest! {
    #[test]
    fn any_command_line_is_answered(lines in prop::collection::vec(line(), 0..6)) {
        fuzz_flags(lines.join("\n").as_bytes());
    }

    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        fuzz_flags(&bytes);
    }

    #[test]
    fn a_printed_duration_reads_back(nanos in 0..=i64::MAX) {
        let text = duration::print(Duration::from_nanos(nanos as u64));
        prop_assert_eq!(duration::parse(&text), Ok(nanos), "{}", text);
        prop_assert_eq!(duration::parse(&format!("-{text}")), Ok(-nanos));
    }

    #[test]
    fn numbers_read_in_every_radix(number: u64) {
        for text in [
            format!("{number}"),
            format!("{number:#x}"),
            format!("{number:#o}"),
            format!("{number:#b}"),
            format!("0{number:o}"),
        ] {
            prop_assert_eq!(number::unsigned(&text, u64::MAX), Ok(number), "{}", text);
        }
    }

    #[test]
    fn signed_numbers_are_those_of_the_language(number: i64) {
        prop_assert_eq!(number::signed(&number.to_string()), Ok(number));
        prop_assert_eq!(number::signed(&format!("+{number}")).is_ok(), number >= 0);
    }
}
