//! Trailers of commit messages.

/// Returns whether `message` has a trailer of this name.
///
/// Only the last paragraph counts, and only if Git accepts it as a block of trailers (`git
/// interpret-trailers --parse`); a quotation in the text does not. Names are compared without case.
pub fn has_trailer(message: &[u8], name: &str) -> bool {
    gix::objs::commit::MessageRef::from_bytes(message)
        .body()
        .is_some_and(|body| {
            body.trailers()
                .any(|trailer| trailer.token.eq_ignore_ascii_case(name.as_bytes()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_read_from_the_last_block() {
        for (message, has) in [
            ("subject\n\nbody\n\nTagboat-Update: dev\n", true),
            (
                "subject\n\ntagboat-update: dev\nSigned-off-by: A <a@b.c>\n",
                true,
            ),
            ("subject\n\nTagboat-Update: dev", true),
            (
                "subject\n\nTagboat-Update: dev\n\nmore text after it\n",
                false,
            ),
            (
                "Revert \"x\"\n\nThis reverts a commit which said Tagboat-Update: dev\n",
                false,
            ),
            ("Tagboat-Update: dev\n", false),
            ("subject\n\nTagboat-Updated: dev\n", false),
            ("subject\n\n> Tagboat-Update: dev\n", false),
            ("", false),
        ] {
            assert_eq!(
                has_trailer(message.as_bytes(), "Tagboat-Update"),
                has,
                "{message:?}"
            );
        }
    }
}
