//! How a request is merged, in one sentence.

use crate::{
    declare::AutoMerge,
    publish::ImageMove,
    schedule::{self, Window},
};

/// How a request is merged, for [`super::Story::merging`]: by a person, or by itself, and when.
pub fn merging_words(auto_merge: Option<&AutoMerge>, windows: &[Window], moves: &[ImageMove]) -> String {
    let Some(AutoMerge { bump, minimum_age, require_checks }) = auto_merge else {
        return "It waits for a person to merge it.".to_owned();
    };
    if let Some(other) = moves.iter().find(|row| !bump.contains(&row.bump)) {
        let allowed: Vec<String> = bump.iter().map(ToString::to_string).collect();
        return format!(
            "It waits for a person: a step of kind {} does not merge by itself here ({} does).",
            other.bump,
            if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") }
        );
    }
    let mut conditions = vec![if *require_checks { "its checks have passed" } else { "no check fails or is pending" }.to_owned()];
    if let Some(age) = minimum_age {
        conditions.push(format!("every tag was seen for {}", schedule::show(*age)));
    }
    if !windows.is_empty() {
        conditions.push("a window of the Environment is open".to_owned());
    }
    let last = conditions.pop().unwrap_or_default();
    let all = if conditions.is_empty() { last } else { format!("{} and {last}", conditions.join(", ")) };
    format!("It merges by itself when {all}. A refused dry run or somebody else's commit stops that.")
}
