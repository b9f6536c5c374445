//! Tokens of an expression.

use super::ParseError;

/// A token and the byte where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lexeme {
    pub token: Token,
    pub at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Ident(String),
    /// The magnitude: a sign is an operator.
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    Symbol(&'static str),
    End,
}

/// Symbols, those that begin with another one first.
const SYMBOLS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}",
];

/// Splits the text of an expression into tokens; the last one is [`Token::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<Lexeme>, ParseError> {
    let mut lexer = Lexer { source, at: 0 };
    let mut all = Vec::new();
    loop {
        lexer.skip_blanks();
        let at = lexer.at;
        let token = lexer.next()?;
        let is_end = token == Token::End;
        all.push(Lexeme { token, at });
        if is_end {
            return Ok(all);
        }
    }
}

/// Creates an error at a byte of the source.
pub(super) fn error(source: &str, at: usize, message: impl Into<String>) -> ParseError {
    let before = source.get(..at).unwrap_or(source);
    ParseError {
        message: message.into(),
        position: before.chars().count() + 1,
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(error(self.source, at, message))
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn next(&mut self) -> Result<Token, ParseError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token::End);
        };
        if let Some((raw, quote)) = text_start(rest) {
            return self.text(raw, quote);
        }
        if first.is_ascii_digit() || is_fraction(rest) {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let is_prefix = matches!(&rest[..end], "b" | "B" | "br" | "Br" | "bR" | "BR");
            if is_prefix && rest[end..].starts_with(['"', '\'']) {
                return self.fail(self.at, "bytes are not supported");
            }
            self.at += end;
            return Ok(Token::Ident(rest[..end].to_owned()));
        }
        if first == '`' {
            let Some(end) = rest[1..].find('`') else {
                return self.fail(self.at, "the quoted name has no end");
            };
            self.at += end + 2;
            return Ok(Token::Ident(rest[1..=end].to_owned()));
        }
        match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => {
                self.at += symbol.len();
                Ok(Token::Symbol(symbol))
            }
            None => self.fail(
                self.at,
                format!("{:?} is no part of an expression", first.to_string()),
            ),
        }
    }

    fn number(&mut self) -> Result<Token, ParseError> {
        let (start, rest) = (self.at, self.rest());
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let end = hex
                .find(|c: char| !c.is_ascii_hexdigit())
                .unwrap_or(hex.len());
            self.at += 2 + end;
            return self.integer(start, u64::from_str_radix(&hex[..end], 16).ok());
        }
        let digits = |text: &str| {
            text.find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len())
        };
        let mut end = digits(rest);
        let mut whole = true;
        if is_fraction(&rest[end..]) {
            end += 1 + digits(&rest[end + 1..]);
            whole = false;
        }
        if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
            let unsigned = exponent.trim_start_matches(['+', '-']);
            let length = digits(unsigned);
            if length > 0 && exponent.len() - unsigned.len() <= 1 {
                end += 1 + exponent.len() - unsigned.len() + length;
                whole = false;
            }
        }
        self.at += end;
        if whole {
            return self.integer(start, rest[..end].parse().ok());
        }
        match rest[..end].parse() {
            Ok(number) => Ok(Token::Double(number)),
            Err(_) => self.fail(start, "this is no number"),
        }
    }

    fn integer(&mut self, start: usize, number: Option<u64>) -> Result<Token, ParseError> {
        let Some(number) = number else {
            return self.fail(start, "the number is too large");
        };
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return Ok(Token::Uint(number));
        }
        Ok(Token::Int(number))
    }

    fn text(&mut self, raw: bool, quote: &'static str) -> Result<Token, ParseError> {
        let start = self.at;
        self.at += usize::from(raw) + quote.len();
        let mut text = String::new();
        loop {
            if self.rest().starts_with(quote) {
                self.at += quote.len();
                return Ok(Token::Text(text));
            }
            let at = self.at;
            match self.take() {
                None => return self.fail(start, "the text has no end"),
                Some('\n') if quote.len() == 1 => return self.fail(start, "the text has no end"),
                Some('\\') if !raw => match self.escape() {
                    Some(character) => text.push(character),
                    None => return self.fail(at, "this escape sequence is unknown"),
                },
                Some(character) => text.push(character),
            }
        }
    }

    fn take(&mut self) -> Option<char> {
        let character = self.rest().chars().next()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.take()? {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            character @ ('\\' | '?' | '"' | '\'' | '`') => character,
            'x' | 'X' => self.code_point(2, 16)?,
            'u' => self.code_point(4, 16)?,
            'U' => self.code_point(8, 16)?,
            '0'..='3' => {
                self.at -= 1;
                self.code_point(3, 8)?
            }
            _ => return None,
        })
    }

    fn code_point(&mut self, length: usize, radix: u32) -> Option<char> {
        let digits = self.rest().get(..length)?;
        if !digits.chars().all(|digit| digit.is_digit(radix)) {
            return None;
        }
        self.at += length;
        char::from_u32(u32::from_str_radix(digits, radix).ok()?)
    }
}

/// Returns whether a text is raw, and its quote, if one begins here.
fn text_start(rest: &str) -> Option<(bool, &'static str)> {
    let unprefixed = rest.strip_prefix(['r', 'R']);
    let text = unprefixed.unwrap_or(rest);
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let quote = quotes.into_iter().find(|quote| text.starts_with(quote))?;
    Some((unprefixed.is_some(), quote))
}

/// Returns whether a text begins with a point and a digit.
fn is_fraction(rest: &str) -> bool {
    rest.strip_prefix('.')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}
