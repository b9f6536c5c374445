//! Rules of servers about commits, as their refusals of a push tell them.

/// A part of a commit that a server's rule demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitDemand {
    Signature,
    SignOff,
}

/// Returns what a commit lacks, by the messages of GitHub ("Commits must have verified
/// signatures"), GitLab ("Commit must be signed with a GPG key"), Gitea ("protected from unverified
/// commit"), Bitbucket ("unsigned commit") and DCO hooks.
pub(super) fn of(why: &str) -> Option<CommitDemand> {
    let why = why.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["signed-off-by", "signed off", "sign-off", "signoff"]) {
        Some(CommitDemand::SignOff)
    } else if says(&[
        "signature",
        "signed",
        "unverified commit",
        "gpg",
        "sign your commit",
    ]) {
        Some(CommitDemand::Signature)
    } else {
        None
    }
}
