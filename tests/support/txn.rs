//! The grammar of transactions.
//!
//! ```text
//! txn [if COMPARE {, COMPARE}] [then OPERATION {; OPERATION}] [else OPERATION {; OPERATION}]
//! COMPARE   = TARGET KEY [end=KEY] RELATION WANTED
//! TARGET    = version | create | mod | value | lease | a number that means nothing
//! RELATION  = `=` | `>` | `<` | `!=` | a number that means nothing
//! WANTED    = a number, or bytes for `value`, or `none` to leave it out, or `as=TARGET WANTED`
//! OPERATION = put ... | range ... | delete ... | none | txn { ... }
//! ```

use std::collections::VecDeque;

use kvorum::pb::{self, compare, request_op};

use super::kv;
use super::line::{Line, Outcome, Token};

/// Reads a transaction after its `txn`, up to the end or a closing brace.
pub fn request(tokens: &mut VecDeque<Token>) -> Outcome<pb::TxnRequest> {
    let mut request = pb::TxnRequest::default();
    if take_word(tokens, "if") {
        request.compare.push(comparison(tokens)?);
        while take_mark(tokens, ',') {
            request.compare.push(comparison(tokens)?);
        }
    }
    if take_word(tokens, "then") {
        request.success = operations(tokens)?;
    }
    if take_word(tokens, "else") {
        request.failure = operations(tokens)?;
    }
    Ok(request)
}

fn operations(tokens: &mut VecDeque<Token>) -> Outcome<Vec<pb::RequestOp>> {
    let mut operations = vec![operation(tokens)?];
    while take_mark(tokens, ';') {
        operations.push(operation(tokens)?);
    }
    Ok(operations)
}

fn operation(tokens: &mut VecDeque<Token>) -> Outcome<pb::RequestOp> {
    if !take_word(tokens, "txn") {
        let until_else = tokens.iter().position(|token| token.is_word("else"));
        let mut rest = tokens.split_off(until_else.unwrap_or(tokens.len()));
        let operation = kv::operation(Line::from_tokens(tokens)?)?;
        tokens.append(&mut rest);
        return Ok(operation);
    }
    if !take_mark(tokens, '{') {
        return Err("a nested txn stands in braces".into());
    }
    let request = request(tokens)?;
    if !take_mark(tokens, '}') {
        return Err(format!("a nested txn ends with a brace, not {:?}", tokens.front()).into());
    }
    Ok(pb::RequestOp { request: Some(request_op::Request::RequestTxn(request)) })
}

fn comparison(tokens: &mut VecDeque<Token>) -> Outcome<pb::Compare> {
    let target = target(&text(tokens)?)?;
    let key = word(tokens)?.into();
    let range_end = take_named(tokens, "end").unwrap_or_default().into();
    let result = match text(tokens)?.as_str() {
        "=" => compare::CompareResult::Equal as i32,
        ">" => compare::CompareResult::Greater as i32,
        "<" => compare::CompareResult::Less as i32,
        "!=" => compare::CompareResult::NotEqual as i32,
        number => number.parse()?,
    };
    let wanted_as = match take_named(tokens, "as") {
        Some(other) => self::target(std::str::from_utf8(&other)?)?,
        None => target,
    };
    let target_union = wanted(wanted_as, word(tokens)?)?;
    Ok(pb::Compare { result, target, key, range_end, target_union })
}

fn target(name: &str) -> Outcome<i32> {
    Ok(match compare::CompareTarget::from_str_name(&name.to_uppercase()) {
        Some(target) => target as i32,
        None => name.parse()?,
    })
}

fn wanted(target: i32, word: Vec<u8>) -> Outcome<Option<compare::TargetUnion>> {
    if word == b"none" {
        return Ok(None);
    }
    if target == compare::CompareTarget::Value as i32 {
        return Ok(Some(compare::TargetUnion::Value(word.into())));
    }
    let number = String::from_utf8(word)?.parse()?;
    Ok(Some(match compare::CompareTarget::try_from(target) {
        Ok(compare::CompareTarget::Create) => compare::TargetUnion::CreateRevision(number),
        Ok(compare::CompareTarget::Mod) => compare::TargetUnion::ModRevision(number),
        Ok(compare::CompareTarget::Lease) => compare::TargetUnion::Lease(number),
        Ok(compare::CompareTarget::Version | compare::CompareTarget::Value) | Err(_) => {
            compare::TargetUnion::Version(number)
        }
    }))
}

fn word(tokens: &mut VecDeque<Token>) -> Outcome<Vec<u8>> {
    match tokens.pop_front() {
        Some(Token::Word(word)) => Ok(word),
        other => Err(format!("a word was expected, not {other:?}").into()),
    }
}

fn text(tokens: &mut VecDeque<Token>) -> Outcome {
    Ok(String::from_utf8(word(tokens)?)?)
}

fn take_word(tokens: &mut VecDeque<Token>, text: &str) -> bool {
    take(tokens, |token| token.is_word(text)).is_some()
}

fn take_mark(tokens: &mut VecDeque<Token>, mark: char) -> bool {
    take(tokens, |token| *token == Token::Mark(mark)).is_some()
}

fn take_named(tokens: &mut VecDeque<Token>, name: &str) -> Option<Vec<u8>> {
    match take(tokens, |token| matches!(token, Token::Named(key, _) if key == name)) {
        Some(Token::Named(_, value)) => Some(value),
        Some(Token::Word(_) | Token::Mark(_)) | None => None,
    }
}

fn take(tokens: &mut VecDeque<Token>, wanted: impl Fn(&Token) -> bool) -> Option<Token> {
    if tokens.front().is_some_and(wanted) { tokens.pop_front() } else { None }
}
