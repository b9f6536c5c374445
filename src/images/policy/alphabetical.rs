//! `alphabetical`: the last tag in the order of bytes, or the first.

use super::{Refusal, order::TagOrder};
use crate::spec::SortOrder;
use std::{borrow::Cow, cmp::Ordering};

pub(super) struct Alphabetical(pub(super) SortOrder);

impl TagOrder for Alphabetical {
    type Key<'a> = Cow<'a, str>;

    fn key<'a>(&self, text: Cow<'a, str>) -> Result<Cow<'a, str>, Refusal> {
        Ok(text)
    }

    fn compare_keys(&self, left: &Cow<'_, str>, right: &Cow<'_, str>) -> Ordering {
        self.0.direct(left.cmp(right))
    }

    fn wanted(&self) -> String {
        "the tags are compared bytewise".to_owned()
    }

    fn summary(&self) -> String {
        format!("alphabetical{}", self.0.suffix())
    }
}
