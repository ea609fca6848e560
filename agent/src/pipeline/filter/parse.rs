//! From the text of a filter to what it says; any text is read or refused, none makes it panic.

use ipnetwork::IpNetwork;

use super::error::{FilterError, hint};
use super::expr::{
    AddressField, AddressValue, At, Expr, Masked, NetnsValue, PortField, Range, Test, looks_like_an_address,
};
use super::token::{Token, Tokens};
use super::words::Word;
use crate::pipeline::services;
use crate::sinks::names::protocol_name;

/// Parentheses and `not` within each other.
pub(super) const MAX_DEPTH: usize = 32;

/// Bytes of a filter.
pub(super) const MAX_LENGTH: usize = 64 << 10;

/// Fields that are no field of addresses or ports.
const OTHER_FIELDS: [&str; 11] =
    ["proto", "family", "direction", "mark", "zone", "netns", "kind", "nat", "status", "flag", "end_reason"];

/// Reads a filter.
pub(super) fn parse(text: &str) -> Result<Expr, FilterError> {
    if text.len() > MAX_LENGTH {
        return Err(FilterError::new("", 0, format!("longer than {} KiB; split it", MAX_LENGTH >> 10)));
    }
    let mut tokens = Tokens::new(text);
    let (token, at) = tokens.next()?;
    let mut parser = Parser { text, tokens, token, at };
    let expr = parser.any(0)?;
    if parser.token == Token::End { Ok(expr) } else { Err(parser.unexpected("\"and\", \"or\" or the end")) }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Tokens<'a>,
    /// The token that was read last and is to be understood next.
    token: Token<'a>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self, depth: usize) -> Result<Expr, FilterError> {
        self.list(Token::Or, Expr::Any, |parser| parser.all(depth))
    }

    fn all(&mut self, depth: usize) -> Result<Expr, FilterError> {
        self.list(Token::And, Expr::All, |parser| parser.one(depth))
    }

    fn list(
        &mut self,
        between: Token<'static>,
        join: impl FnOnce(Vec<Expr>) -> Expr,
        mut part: impl FnMut(&mut Self) -> Result<Expr, FilterError>,
    ) -> Result<Expr, FilterError> {
        let first = part(self)?;
        if self.token != between {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.token == between {
            self.advance()?;
            parts.push(part(self)?);
        }
        Ok(join(parts))
    }

    fn one(&mut self, depth: usize) -> Result<Expr, FilterError> {
        match self.token {
            Token::Not => {
                self.deeper(depth)?;
                Ok(Expr::Not(Box::new(self.one(depth + 1)?)))
            }
            Token::Open => {
                self.deeper(depth)?;
                let inner = self.any(depth + 1)?;
                self.expect(Token::Close, "\"and\", \"or\" or \")\"")?;
                Ok(inner)
            }
            Token::Word(field) => self.term(field),
            _ => Err(self.unexpected("a field like \"src\", \"not\" or \"(\"")),
        }
    }

    fn deeper(&mut self, depth: usize) -> Result<(), FilterError> {
        if depth == MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH}; split the filter")));
        }
        self.advance()
    }

    fn term(&mut self, field: &str) -> Result<Expr, FilterError> {
        let field_at = self.at;
        self.advance()?;
        let is_known = AddressField::from_name(field).is_some()
            || PortField::from_name(field).is_some()
            || OTHER_FIELDS.contains(&field);
        if !is_known {
            return Err(FilterError::new(self.text, field_at, unknown_field(field)));
        }
        let negated = self.operator()?;
        let test = self.test(field, field_at)?;
        Ok(Expr::Term { test, negated })
    }

    fn operator(&mut self) -> Result<bool, FilterError> {
        let negated = match self.token {
            Token::Equal | Token::In => false,
            Token::NotEqual => true,
            Token::Not => {
                self.advance()?;
                if self.token != Token::In {
                    return Err(self.unexpected("\"in\""));
                }
                true
            }
            _ => return Err(self.unexpected("\"=\", \"!=\", \"in\" or \"not in\"")),
        };
        self.advance()?;
        Ok(negated)
    }

    fn test(&mut self, field: &str, at: usize) -> Result<Test, FilterError> {
        if let Some(field) = AddressField::from_name(field) {
            return Ok(Test::Address(field, self.values(|value| value.address())?));
        }
        if let Some(field) = PortField::from_name(field) {
            return Ok(Test::Port(field, self.values(|value| value.port())?));
        }
        Ok(match field {
            "proto" => Test::Protocol(self.values(|value| value.protocol())?),
            "mark" => Test::Mark(self.values(|value| value.mark())?),
            "zone" => Test::Zone(self.values(|value| value.range("zone"))?),
            "netns" => Test::Netns(self.values(|value| value.netns())?),
            "family" => Test::Family(self.words()?),
            "direction" => Test::Direction(self.words()?, At(at)),
            "kind" => Test::Kind(self.words()?),
            "nat" => Test::Nat(self.words()?),
            "status" => Test::Status(self.words()?),
            "flag" => Test::Flag(self.words()?),
            _ => Test::EndReason(self.words()?),
        })
    }

    fn words<T: Word>(&mut self) -> Result<Vec<T>, FilterError> {
        self.values(|value| value.word())
    }

    /// One value, or some in braces.
    fn values<T>(
        &mut self,
        read: impl Fn(&Value<'_>) -> Result<T, FilterError>,
    ) -> Result<Vec<T>, FilterError> {
        if self.token != Token::OpenSet {
            return Ok(vec![read(&self.value()?)?]);
        }
        let mut values = Vec::new();
        while values.is_empty() || self.token == Token::Comma {
            self.advance()?;
            values.push(read(&self.value()?)?);
        }
        self.expect(Token::CloseSet, "\",\" or \"}\"")?;
        Ok(values)
    }

    fn value(&mut self) -> Result<Value<'a>, FilterError> {
        let (text, is_quoted) = match self.token {
            Token::Word(text) => (text, false),
            Token::Quoted(text) => (text, true),
            _ => return Err(self.unexpected("a value")),
        };
        let value = Value { filter: self.text, text, at: self.at, is_quoted };
        self.advance()?;
        Ok(value)
    }

    fn advance(&mut self) -> Result<(), FilterError> {
        (self.token, self.at) = self.tokens.next()?;
        Ok(())
    }

    fn expect(&mut self, token: Token<'static>, wanted: &str) -> Result<(), FilterError> {
        if self.token == token { self.advance() } else { Err(self.unexpected(wanted)) }
    }

    fn unexpected(&self, wanted: &str) -> FilterError {
        self.error(format!("expected {wanted}, found {}", self.token.describe()))
    }

    fn error(&self, message: String) -> FilterError {
        FilterError::new(self.text, self.at, message)
    }
}

fn unknown_field(field: &str) -> String {
    let names = || AddressField::names().chain(PortField::names()).chain(OTHER_FIELDS);
    let mut help = hint(field, names());
    if help.is_empty() {
        help = format!("; the fields are {}", names().collect::<Vec<_>>().join(", "));
    }
    format!("no field is called {field:?}{help}")
}

/// One value of a term.
struct Value<'a> {
    filter: &'a str,
    text: &'a str,
    at: usize,
    is_quoted: bool,
}

impl Value<'_> {
    fn address(&self) -> Result<AddressValue, FilterError> {
        let text = self.text;
        if self.is_quoted || !looks_like_an_address(text) {
            return Ok(AddressValue::Network(text.to_owned(), At(self.at)));
        }
        let Ok(prefix) = text.parse::<IpNetwork>() else {
            return Err(self.wrong("is neither an address nor a prefix like 10.0.0.0/8 or 2001:db8::/32"));
        };
        let network = prefix.network();
        if prefix.ip() != network {
            return Err(self
                .wrong(&format!("has bits set behind its length; is {network}/{} meant?", prefix.prefix())));
        }
        Ok(AddressValue::Prefix(prefix))
    }

    fn port(&self) -> Result<Range, FilterError> {
        if let Some(port) = services::port(self.text) {
            return Ok(Range { first: port, last: port });
        }
        self.range("port")
    }

    fn range(&self, what: &str) -> Result<Range, FilterError> {
        let (first, last) = self.text.split_once('-').unwrap_or((self.text, self.text));
        let bound = |text| number(text).and_then(|number| u16::try_from(number).ok());
        match (bound(first), bound(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Range { first, last }),
            (Some(_), Some(_)) => Err(self.wrong("ends before it begins")),
            _ => Err(self.wrong(&format!("is no {what} and no range: write 0 to 65535, or 1-9"))),
        }
    }

    fn protocol(&self) -> Result<u8, FilterError> {
        let alias = if self.text == "icmpv6" { "ipv6-icmp" } else { self.text };
        let named = (0..=u8::MAX).find(|number| protocol_name(*number) == Some(alias));
        let numbered = || number(self.text).and_then(|number| u8::try_from(number).ok());
        named.or_else(numbered).ok_or_else(|| {
            let names = (0..=u8::MAX).filter_map(protocol_name);
            self.wrong(&format!(
                "is no protocol{}: write a name like tcp, or 0 to 255",
                hint(self.text, names)
            ))
        })
    }

    fn mark(&self) -> Result<Masked, FilterError> {
        let (value, mask) = self.text.split_once('/').unwrap_or((self.text, "0xffffffff"));
        let (Some(value), Some(mask)) = (number(value), number(mask)) else {
            return Err(self.wrong("is no mark: write a number like 0x10, or 0x10/0xff with a mask"));
        };
        if value & !mask != 0 {
            return Err(self.wrong("has bits that its mask lacks, so that no mark can be equal"));
        }
        Ok(Masked { value, mask })
    }

    fn netns(&self) -> Result<NetnsValue, FilterError> {
        let text = self.text;
        if self.is_quoted || !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(NetnsValue::Name(text.to_owned()));
        }
        let inode = number(text).map(NetnsValue::Inode);
        inode
            .ok_or_else(|| self.wrong("is no inode number; a name that begins with a digit stands in quotes"))
    }

    fn word<T: Word>(&self) -> Result<T, FilterError> {
        T::from_name(self.text).ok_or_else(|| {
            let names = T::names().collect::<Vec<_>>().join(", ");
            self.wrong(&format!("is not one of {names}{}", hint(self.text, T::names())))
        })
    }

    fn wrong(&self, what: &str) -> FilterError {
        FilterError::new(self.filter, self.at, format!("{:?} {what}", self.text))
    }
}

/// A decimal number, or a hexadecimal one with `0x`; nothing else, no sign.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    let is_plain = digits.chars().all(|c| c.is_ascii_hexdigit());
    if is_plain { u32::from_str_radix(digits, radix).ok() } else { None }
}
