//! The patterns of `matches`: RE2 as Go reads it, bounded before and while they run.

use super::{EvaluationError, cost::Cost};
use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSetItem, Span, Visitor,
};

/// The longest text of a pattern, in bytes.
const MAX_LENGTH: usize = 256;

/// The most memory of a compiled pattern, in bytes.
const MAX_COMPILED: usize = 16 << 10;

/// Bytes of a pattern that cost a step for each byte of the text.
const PATTERN_STEP: usize = 64;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// The steps for a byte of text: a longer pattern has more states.
    step: u64,
}

impl Pattern {
    /// Compiles a pattern.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        if source.len() > MAX_LENGTH {
            return Err(format!(
                "the pattern of matches() has {} bytes, and at most {MAX_LENGTH} are allowed",
                source.len()
            ));
        }
        let compiled = with_ascii_classes(source).and_then(|source| {
            RegexBuilder::new(&source)
                .size_limit(MAX_COMPILED)
                .dfa_size_limit(MAX_COMPILED * 16)
                .build()
                .map_err(Some)
        });
        match compiled {
            Ok(regex) => Ok(Self {
                regex,
                step: 1 + (source.len() / PATTERN_STEP) as u64,
            }),
            Err(Some(regex::Error::CompiledTooBig(_))) => {
                Err("the pattern of matches() is too large".to_owned())
            }
            Err(_) => Err("this is no regular expression (RE2)".to_owned()),
        }
    }

    /// Searches a text, paid before.
    pub(super) fn is_match(&self, text: &str, cost: &Cost) -> Result<bool, EvaluationError> {
        cost.charge((text.len() as u64).saturating_mul(self.step))?;
        Ok(self.regex.is_match(text))
    }
}

/// Replaces the classes that are ASCII in RE2, and Unicode (and large) in the crate.
fn with_ascii_classes(source: &str) -> Result<String, Option<regex::Error>> {
    let parsed = ast::parse::Parser::new().parse(source).map_err(|_| None)?;
    let replacements = ast::visit(&parsed, AsciiClasses(Vec::new())).map_err(|()| None)?;
    let mut replaced = String::new();
    let mut from = 0;
    for (span, class) in replacements {
        replaced.push_str(&source[from..span.start.offset]);
        replaced.push_str(class);
        from = span.end.offset;
    }
    replaced.push_str(&source[from..]);
    Ok(replaced)
}

/// Collects the classes to replace, in the order of the text.
struct AsciiClasses(Vec<(Span, &'static str)>);

impl AsciiClasses {
    fn class(&mut self, class: &ClassPerl) {
        let ascii = match (&class.kind, class.negated) {
            (ClassPerlKind::Digit, false) => "[0-9]",
            (ClassPerlKind::Digit, true) => "[^0-9]",
            (ClassPerlKind::Space, false) => r"[\t\n\f\r\x20]",
            (ClassPerlKind::Space, true) => r"[^\t\n\f\r\x20]",
            (ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
            (ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
        };
        self.0.push((class.span, ascii));
    }
}

impl Visitor for AsciiClasses {
    type Output = Vec<(Span, &'static str)>;
    type Err = ();

    fn finish(self) -> Result<Self::Output, ()> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), ()> {
        match ast {
            Ast::ClassPerl(class) => self.class(class),
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::WordBoundary => self.0.push((assertion.span, r"(?-u:\b)")),
                AssertionKind::NotWordBoundary => self.0.push((assertion.span, r"(?-u:\B)")),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), ()> {
        if let ClassSetItem::Perl(class) = item {
            self.class(class);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_classes_are_ascii() {
        for (pattern, matching, other) in [
            (r"^\w+$", "a_1", "ä"),
            (r"^\W$", "ä", "a"),
            (r"^\d+\.\d+\.\d+$", "1.20.3", "1.٣.3"),
            (r"^\D$", "٣", "3"),
            (r"^a\sb$", "a b", "a\u{a0}b"),
            (r"^\S$", "\u{a0}", "\n"),
            (r"\bis\b", "äisä is", "this"),
            (r"\Bis", "this", "äis"),
            (r"^[\w.-]+$", "a-b.c", "ä"),
            (r"^[^\d\s]+$", "aä", "a1"),
            (r"^[\W\d]$", "ä", "a"),
            (r"^[\w-]+$", "a-x", "."),
            (r"^\\d$", r"\d", "1"),
            ("^.{6}$", "Später", "Spater1"),
        ] {
            let pattern = Pattern::compile(pattern).map_err(|error| format!("{pattern}: {error}"));
            let is_match = |text| pattern.as_ref().unwrap().is_match(text, &Cost::new());
            assert_eq!(is_match(matching), Ok(true), "{pattern:?} {matching}");
            assert_eq!(is_match(other), Ok(false), "{pattern:?} {other}");
        }
    }
}
