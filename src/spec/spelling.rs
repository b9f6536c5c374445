//! Suggestions for misspelt names.

/// The known name a misspelt one was most likely meant to be.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let fold = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let name = fold(name);
    known
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&name, &fold(candidate)),
                *candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}
