//! Whole numbers as etcd's flags take them: decimal, `0x`, `0o`, `0b`, a leading zero for octal,
//! and `_` between digits. Manifests carry such spellings, so they must mean the same here.

/// Why a text is not the number a flag wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    Syntax,
    Range,
}

/// A number that fits an `i64`.
pub fn signed(text: &str) -> Result<i64, NumberError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = magnitude(digits)?;
    let number = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    i64::try_from(number).map_err(|_| NumberError::Range)
}

/// A number without a sign that is at most `max`.
pub fn unsigned(text: &str, max: u64) -> Result<u64, NumberError> {
    let number = magnitude(text)?;
    if number > max { Err(NumberError::Range) } else { Ok(number) }
}

fn magnitude(text: &str) -> Result<u64, NumberError> {
    let (radix, digits) = split_radix(text);
    // A prefix counts as a digit for the rule that `_` stands between digits.
    let mut after_digit = radix != 10;
    let mut number: u64 = 0;
    let mut overflow = false;
    let mut count = 0;
    for character in digits.chars() {
        if character == '_' {
            if !after_digit {
                return Err(NumberError::Syntax);
            }
            after_digit = false;
            continue;
        }
        let digit = character.to_digit(radix).ok_or(NumberError::Syntax)?;
        after_digit = true;
        count += 1;
        match number.checked_mul(u64::from(radix)).and_then(|n| n.checked_add(u64::from(digit))) {
            Some(next) => number = next,
            None => overflow = true,
        }
    }
    if count == 0 || !after_digit {
        return Err(NumberError::Syntax);
    }
    if overflow { Err(NumberError::Range) } else { Ok(number) }
}

/// The radix a prefix announces, and what follows the prefix. `_` is allowed in every radix.
fn split_radix(text: &str) -> (u32, &str) {
    let Some(rest) = text.strip_prefix('0').filter(|rest| !rest.is_empty()) else {
        return (10, text);
    };
    match rest.as_bytes()[0] {
        b'x' | b'X' => (16, &rest[1..]),
        b'o' | b'O' => (8, &rest[1..]),
        b'b' | b'B' => (2, &rest[1..]),
        _ => (8, rest),
    }
}
