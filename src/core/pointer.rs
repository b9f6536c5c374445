//! Tokens of JSON pointers (RFC 6901).

use jsonptr::Token;
use std::borrow::Cow;

/// Encodes the name of a field as a token.
pub fn encode(name: &str) -> String {
    Token::new(name).encoded().to_owned()
}

/// Decodes a token; a malformed one stands for itself.
pub fn decode(token: &str) -> Cow<'_, str> {
    match Token::from_encoded(token) {
        Ok(decoded) => Cow::Owned(decoded.decoded().into_owned()),
        Err(_) => Cow::Borrowed(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_of_any_name_decodes_to_it() {
        for (name, token) in [("a", "a"), ("a/b", "a~1b"), ("~1", "~01"), ("", "")] {
            assert_eq!(encode(name), token);
            assert_eq!(decode(token), name);
        }
        assert_eq!(decode("~2"), "~2");
    }
}
