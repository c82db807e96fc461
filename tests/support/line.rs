//! A script line taken apart: a name, words, and named arguments, all of them bytes.
//!
//! Lines reach this module in two shapes: parsed by goldenscript, or as raw text after `>`, which
//! is cut into [`Token`]s here because goldenscript's own syntax has no punctuation for nesting.
//! Keys and values are bytes; a character up to U+00FF stands for that one byte, so that `"\xff"`
//! means what it says, and any other character for its UTF-8.

use std::collections::VecDeque;
use std::error::Error;

/// What a script line may fail with: a mistake in the script or a dead target, never an answer.
pub type Outcome<T = String> = Result<T, Box<dyn Error>>;

/// One command, its arguments handed out one by one.
#[derive(Debug, Default)]
pub struct Line {
    pub name: String,
    words: VecDeque<Vec<u8>>,
    named: Vec<(String, Vec<u8>)>,
}

impl Line {
    /// A command without arguments.
    pub fn plain(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Takes over what goldenscript parsed.
    pub fn from_command(command: &goldenscript::Command) -> Self {
        let mut line = Line::plain(&command.name);
        for argument in &command.args {
            match argument {
                goldenscript::Argument::Positional(word) => line.words.push_back(bytes(word)),
                goldenscript::Argument::KeyValue(key, value) => {
                    line.named.push((key.clone(), bytes(value)));
                }
                other => panic!("an argument goldenscript has learnt since: {other:?}"),
            }
        }
        line
    }

    /// Takes tokens up to the end or the first punctuation; the first of them is the name.
    pub fn from_tokens(tokens: &mut VecDeque<Token>) -> Outcome<Self> {
        let mut line = Line::default();
        match tokens.pop_front() {
            Some(Token::Word(name)) => line.name = String::from_utf8(name)?,
            other => return Err(format!("a command was expected, not {other:?}").into()),
        }
        loop {
            match tokens.front() {
                None | Some(Token::Mark(_)) => return Ok(line),
                Some(Token::Word(word)) => line.words.push_back(word.clone()),
                Some(Token::Named(key, value)) => line.named.push((key.clone(), value.clone())),
            }
            tokens.pop_front();
        }
    }

    /// The next word, which must be there.
    pub fn word(&mut self, what: &str) -> Outcome<Vec<u8>> {
        self.words.pop_front().ok_or_else(|| format!("{}: {what} is missing", self.name).into())
    }

    /// The next word as text.
    pub fn text(&mut self, what: &str) -> Outcome<String> {
        Ok(String::from_utf8(self.word(what)?)?)
    }

    /// The next word as a number.
    pub fn number(&mut self, what: &str) -> Outcome<i64> {
        Ok(self.text(what)?.parse()?)
    }

    /// The next word, if any is left.
    pub fn maybe_word(&mut self) -> Option<Vec<u8>> {
        self.words.pop_front()
    }

    /// Whether the flag stands among the words that are left.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name.as_bytes());
        self.words.len() != before
    }

    /// A named argument, or nothing.
    pub fn named(&mut self, name: &str) -> Option<Vec<u8>> {
        let index = self.named.iter().position(|(key, _)| key == name)?;
        Some(self.named.remove(index).1)
    }

    /// A named argument as text, or nothing.
    pub fn named_text(&mut self, name: &str) -> Outcome<Option<String>> {
        Ok(self.named(name).map(String::from_utf8).transpose()?)
    }

    /// A named number, or zero, which is how the wire says that it is absent.
    pub fn named_number(&mut self, name: &str) -> Outcome<i64> {
        self.named_text(name)?.map_or(Ok(0), |text| Ok(text.parse()?))
    }

    /// Puts something else in the place of a word that is only known at run time.
    pub fn replace_word(&mut self, from: &str, to: &str) {
        for word in self.words.iter_mut().filter(|word| *word == from.as_bytes()) {
            *word = to.as_bytes().to_vec();
        }
    }

    /// Refuses what nobody asked for, so that a misspelt argument cannot pass unnoticed.
    pub fn finish(self) -> Outcome<()> {
        if self.words.is_empty() && self.named.is_empty() {
            return Ok(());
        }
        Err(format!("{}: unexpected {:?} {:?}", self.name, self.words, self.named).into())
    }
}

/// A piece of a raw line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    Word(Vec<u8>),
    Named(String, Vec<u8>),
    Mark(char),
}

impl Token {
    pub fn is_word(&self, text: &str) -> bool {
        matches!(self, Token::Word(word) if word == text.as_bytes())
    }
}

/// Cuts a raw line into tokens: words, `"quoted words"`, `name=value`, and the marks `{ } ; ,`.
pub fn tokens(text: &str) -> Outcome<VecDeque<Token>> {
    let mut rest = text.chars().peekable();
    let mut tokens = VecDeque::new();
    while let Some(&next) = rest.peek() {
        if next.is_whitespace() {
            rest.next();
        } else if matches!(next, '{' | '}' | ';' | ',') {
            tokens.push_back(Token::Mark(next));
            rest.next();
        } else if next == '"' {
            tokens.push_back(Token::Word(quoted(&mut rest)?));
        } else {
            let word = bare(&mut rest);
            match word.strip_suffix('=') {
                Some(name) if name.starts_with(|first: char| first.is_ascii_alphabetic()) => {
                    let value = match rest.peek() {
                        Some('"') => quoted(&mut rest)?,
                        _ => bare(&mut rest).into_bytes(),
                    };
                    tokens.push_back(Token::Named(name.to_owned(), value));
                }
                Some(_) | None => tokens.push_back(Token::Word(word.into_bytes())),
            }
        }
    }
    Ok(tokens)
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// A run of ordinary characters; it ends after the first `=`, which belongs to it.
fn bare(rest: &mut Characters<'_>) -> String {
    let mut word = String::new();
    while let Some(&next) = rest.peek() {
        if next.is_whitespace() || matches!(next, '{' | '}' | ';' | ',' | '"') {
            break;
        }
        word.push(next);
        rest.next();
        if next == '=' {
            break;
        }
    }
    word
}

/// A quoted word, with goldenscript's escapes.
fn quoted(rest: &mut Characters<'_>) -> Outcome<Vec<u8>> {
    rest.next();
    let mut text = String::new();
    loop {
        match rest.next().ok_or("a quote is not closed")? {
            '"' => return Ok(bytes(&text)),
            '\\' => text.push(match rest.next().ok_or("a quote is not closed")? {
                '0' => '\0',
                'n' => '\n',
                't' => '\t',
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    char::from(u8::from_str_radix(&digits, 16)?)
                }
                same => same,
            }),
            other => text.push(other),
        }
    }
}

/// The bytes a string of the script stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(character) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend(character.to_string().bytes()),
        }
    }
    bytes
}
