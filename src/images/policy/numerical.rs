//! `numerical`: the greatest whole decimal number, or the least. Numbers have any length.

use super::{Refusal, order::TagOrder};
use crate::spec::SortOrder;
use std::{borrow::Cow, cmp::Ordering};

pub(super) struct Numerical(pub(super) SortOrder);

impl TagOrder for Numerical {
    /// Digits without leading zeros: compared by length, then bytewise, so exactly.
    type Key<'a> = Cow<'a, str>;

    fn key<'a>(&self, text: Cow<'a, str>) -> Result<Cow<'a, str>, Refusal> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Refusal::NoNumber {
                text: text.into_owned(),
            });
        }
        Ok(match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_start_matches('0')),
            Cow::Owned(text) => Cow::Owned(text.trim_start_matches('0').to_owned()),
        })
    }

    fn compare_keys(&self, left: &Cow<'_, str>, right: &Cow<'_, str>) -> Ordering {
        let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
        self.0.direct(order)
    }

    fn wanted(&self) -> String {
        "whole numbers are wanted".to_owned()
    }

    fn summary(&self) -> String {
        format!("numerical{}", self.0.suffix())
    }
}
