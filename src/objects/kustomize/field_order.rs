//! The order of fields, as kustomize prints them.

use std::cmp::Ordering;

/// Compares names of fields as Go's YAML writer does: symbols, then numbers by value, then letters.
pub(super) fn printed(one: &str, other: &str) -> Ordering {
    tokens(one).cmp(tokens(other))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Token<'t> {
    Symbol(char),
    /// The length without leading zeros, the digits, the length with them.
    Number(usize, &'t str, usize),
    Letter(char),
}

fn tokens(name: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = match first.is_ascii_digit() {
            true => rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        let digits = token.trim_start_matches('0');
        Some(match first {
            _ if first.is_ascii_digit() => Token::Number(digits.len(), digits, token.len()),
            _ if first.is_alphabetic() => Token::Letter(first),
            _ => Token::Symbol(first),
        })
    })
}
