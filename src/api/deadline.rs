//! `grpc-timeout`: how long the client of a call is going to wait, in the transport's spelling.

use std::time::Duration;

use http::HeaderMap;

/// The patience of a call's client, if it states any; malformed, it is given back.
pub fn patience(headers: &HeaderMap) -> Result<Option<Duration>, &[u8]> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    parse(value.as_bytes()).map(Some).ok_or(value.as_bytes())
}

/// One to eight digits and a unit, as the protocol has it.
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::time::Duration;

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        let good = [
            ("1H", Duration::from_secs(3600)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("0n", Duration::ZERO),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("2M", Duration::from_secs(120)),
        ];
        for (text, duration) in good {
            assert_eq!(parse(text.as_bytes()), Some(duration), "{text}");
        }
        for text in ["", "S", "5", "123456789S", "-1S", "1X", "1 S", "+1S"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
