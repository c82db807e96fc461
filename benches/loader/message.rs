//! Reading a protobuf message field by field, without building it.
//!
//! An answer of 500 rows is checked by counting them; decoding them would cost the loader more
//! than sending them costs a good server. Whatever cannot be read ends the walk, and the check
//! that called for it fails.

/// A field's content.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message in the order they come.
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// Walks over a message.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// The first field of this number, if it holds bytes.
pub fn bytes(message: &[u8], number: u32) -> Option<&[u8]> {
    fields(message).find_map(|field| match field {
        (found, Value::Bytes(bytes)) if found == number => Some(bytes),
        (_, Value::Bytes(_) | Value::Number(_)) => None,
    })
}

/// The first field of this number, if it holds a number; 0 as in proto3 if it is not there.
pub fn number(message: &[u8], number: u32) -> u64 {
    let found = fields(message).find_map(|field| match field {
        (found, Value::Number(value)) if found == number => Some(value),
        (_, Value::Bytes(_) | Value::Number(_)) => None,
    });
    found.unwrap_or(0)
}

/// How often a field comes.
pub fn count(message: &[u8], number: u32) -> usize {
    fields(message).filter(|(found, _)| *found == number).count()
}

/// The revision in the header that every answer of etcd has as its first field.
pub fn revision(answer: &[u8]) -> Option<i64> {
    Some(number(bytes(answer, 1)?, 3) as i64)
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            // No message of etcd's has fixed-width fields.
            _ => return None,
        };
        Some(((tag >> 3) as u32, value))
    }
}

impl Fields<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}
