//! The tokens of a filter.

use super::error::FilterError;

/// What a filter is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name, a number, an address.
    Word(&'a str),
    /// What stands between quotes.
    Quoted(&'a str),
    Equal,
    NotEqual,
    And,
    Or,
    Not,
    In,
    Open,
    Close,
    OpenSet,
    CloseSet,
    Comma,
    End,
}

impl Token<'_> {
    /// What a person calls it.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Word(text) | Self::Quoted(text) => format!("{text:?}"),
            Self::End => "the end".to_owned(),
            Self::Equal => "\"=\"".to_owned(),
            Self::NotEqual => "\"!=\"".to_owned(),
            Self::And => "\"and\"".to_owned(),
            Self::Or => "\"or\"".to_owned(),
            Self::Not => "\"not\"".to_owned(),
            Self::In => "\"in\"".to_owned(),
            Self::Open => "\"(\"".to_owned(),
            Self::Close => "\")\"".to_owned(),
            Self::OpenSet => "\"{\"".to_owned(),
            Self::CloseSet => "\"}\"".to_owned(),
            Self::Comma => "\",\"".to_owned(),
        }
    }
}

/// Whether a word may have this character.
pub(super) const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '/' | '-')
}

/// Words that are tokens of their own, in the case in which they are written.
pub(super) fn keyword(word: &str) -> Option<Token<'static>> {
    Some(match word {
        "and" => Token::And,
        "or" => Token::Or,
        "not" => Token::Not,
        "in" => Token::In,
        _ => return None,
    })
}

const SIGNS: [(&str, Token<'static>); 11] = [
    ("==", Token::Equal),
    ("!=", Token::NotEqual),
    ("&&", Token::And),
    ("||", Token::Or),
    ("=", Token::Equal),
    ("!", Token::Not),
    ("(", Token::Open),
    (")", Token::Close),
    ("{", Token::OpenSet),
    ("}", Token::CloseSet),
    (",", Token::Comma),
];

/// Reads one token after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Tokens<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    /// The next token and where it begins, in bytes; [`Token::End`] again and again behind the last.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, usize), FilterError> {
        let rest = self.text.get(self.position..).unwrap_or_default();
        let trimmed = rest.trim_start();
        let begin = self.text.len() - trimmed.len();
        let (token, length) = self.token(trimmed, begin)?;
        self.position = begin + length;
        Ok((token, begin))
    }

    fn token(&self, rest: &'a str, begin: usize) -> Result<(Token<'a>, usize), FilterError> {
        let Some(first) = rest.chars().next() else { return Ok((Token::End, 0)) };
        if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let word = rest.get(..length).unwrap_or_default();
            return Ok((keyword(word).unwrap_or(Token::Word(word)), length));
        }
        if matches!(first, '"' | '\'') {
            return self.quoted(rest, first, begin);
        }
        let sign = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign));
        sign.map(|(sign, token)| (*token, sign.len()))
            .ok_or_else(|| FilterError::new(self.text, begin, format!("{first:?} means nothing here")))
    }

    fn quoted(&self, rest: &'a str, quote: char, begin: usize) -> Result<(Token<'a>, usize), FilterError> {
        let inner = rest.get(1..).unwrap_or_default();
        match inner.split_once(quote) {
            Some(("", _)) => Err(FilterError::new(self.text, begin, "nothing stands between these quotes")),
            Some((name, _)) => Ok((Token::Quoted(name), name.len() + 2)),
            None => Err(FilterError::new(self.text, begin, "this quote is never closed")),
        }
    }
}
