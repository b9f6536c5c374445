//! Push: a compare-and-swap on references of the server.
//!
//! gix has no push; this is Git's [pack protocol](https://git-scm.com/docs/pack-protocol) ("Pushing
//! Data To a Server") on gix's transports.

use super::{
    commit_demand::{self, CommitDemand},
    draft::CommitDraft,
    error::{GitError, chain, plain},
    mirror::Mirror,
    pack::pack,
};
use crate::core::error::{Classify, ErrorKind};
use gix::{
    ObjectId,
    bstr::{BString, ByteSlice},
    protocol::handshake::Ref,
};
use gix_transport::{
    Protocol, Service,
    client::{MessageKind, WriteMode, blocking_io::Transport},
};
use std::{
    cell::RefCell,
    io::{Read, Write},
    ops::ControlFlow,
};

/// One reference update, as compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The reference in full, `refs/heads/main`.
    pub reference: String,
    /// The required present value; `None`: must not exist.
    pub old: Option<ObjectId>,
    /// The new value; `None`: delete.
    pub new: Option<ObjectId>,
}

/// The result of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushOutcome {
    /// All references are as requested.
    Done,
    /// These were rejected; the others are as requested, unless the server pushes atomically.
    Rejected(Vec<PushRejection>),
}

/// A reference that the server did not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("git remote {remote}: {reference} was not changed: {why}")]
pub struct PushRejection {
    /// The URL, without credentials.
    pub remote: String,
    pub reference: String,
    /// The server's message, escaped: its status and sideband text.
    pub why: String,
    /// Conflict: the reference has moved; fetch and redo. Config: a hook or a protected branch.
    pub kind: ErrorKind,
}

impl Classify for PushRejection {
    fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn hint(&self) -> Option<String> {
        let hint = match commit_demand::of(&self.why) {
            Some(CommitDemand::Signature) => {
                "The server wants signed commits: set repositories[].signingKey in tagboat.yaml, and add its public key to the bot's account at the forge."
            }
            Some(CommitDemand::SignOff) => {
                "The server wants a sign-off: end the Environment's update.message with a line `Signed-off-by: NAME <EMAIL>`."
            }
            None => {
                "Allow the account to push to this branch, or let it open pull requests instead."
            }
        };
        (self.kind == ErrorKind::Config).then(|| hint.to_owned())
    }
}

impl Mirror {
    /// Pushes a draft to the branch: it must still be where the draft was made on.
    ///
    /// # Errors
    /// [`GitError::Denied`] and [`GitError::Wire`]: nothing happened. [`GitError::Unanswered`]: it
    /// may have happened.
    pub fn push(&self, draft: &CommitDraft) -> Result<PushOutcome, GitError> {
        let update = RefUpdate {
            reference: self.remote().reference(),
            old: Some(draft.parent),
            new: Some(draft.commit),
        };
        self.push_references(Some(draft), &[update])
    }

    /// Changes references, all or none where the server can. `draft` has the objects that the
    /// server lacks.
    ///
    /// # Errors
    /// As [`Mirror::push`].
    pub fn push_references(
        &self,
        draft: Option<&CommitDraft>,
        updates: &[RefUpdate],
    ) -> Result<PushOutcome, GitError> {
        if updates.iter().all(|update| update.old == update.new) {
            return Ok(PushOutcome::Done);
        }
        let wire = |error: gix::Error| self.remote().wire("push", &error);
        // V1 means no `Git-Protocol` header: receive-pack speaks no version 2.
        let mut transport = self.remote().transport(Protocol::V1)?;
        let handshake = self.remote().guard("push", || {
            gix::protocol::handshake(
                &mut transport,
                Service::ReceivePack,
                |_| Ok(None),
                Vec::new(),
                &mut gix::progress::Discard,
            )
            .map_err(wire)
        })?;
        let stale = self.stale(handshake.refs.as_deref().unwrap_or_default(), updates);
        if !stale.is_empty() {
            return Ok(PushOutcome::Rejected(stale));
        }
        let mut abilities = Vec::new();
        for ability in [
            "report-status",
            "side-band-64k",
            "atomic",
            "delete-refs",
            "ofs-delta",
        ] {
            if handshake.capabilities.contains(ability)
                && (ability != "atomic" || updates.len() > 1)
            {
                abilities.push(ability);
            }
        }
        if !abilities.contains(&"report-status") {
            return Err(GitError::Wire {
                remote: self.remote().shown().to_owned(),
                doing: "push",
                why: "the server reports no status".into(),
            });
        }
        let data = match updates.iter().any(|update| update.new.is_some()) {
            true => pack(draft.map_or(&[], |draft| &draft.objects)).map_err(wire)?,
            false => Vec::new(),
        };
        let (report, said) = self.exchange(&mut *transport, updates, &abilities, &data)?;
        self.outcome(updates, &report, &said)
    }

    /// Returns the references that are not at their required value, by the server's advertisement:
    /// such a push need not be sent.
    fn stale(&self, refs: &[Ref], updates: &[RefUpdate]) -> Vec<PushRejection> {
        let at = |reference: &str| {
            refs.iter()
                .map(Ref::unpack)
                .find(|(name, ..)| *name == reference.as_bytes().as_bstr())
                .and_then(|(_, id, _)| id)
        };
        let moved = |update: &&RefUpdate| at(&update.reference) != update.old.as_deref();
        updates
            .iter()
            .filter(moved)
            .map(|update| self.refusal(update, "it has moved", ErrorKind::Conflict))
            .collect()
    }

    /// Sends commands and pack, and reads the report (as packet lines) and what the server tells
    /// people.
    fn exchange(
        &self,
        transport: &mut dyn Transport,
        updates: &[RefUpdate],
        abilities: &[&str],
        data: &[u8],
    ) -> Result<(Vec<u8>, String), GitError> {
        let said = RefCell::new(Vec::new());
        let lost = |error: &(dyn std::error::Error + 'static)| self.lost(error);
        // This mode buffers the body and sends its length. The other one sends chunks, which
        // servers behind proxies reject.
        let mode = WriteMode::OneLfTerminatedLinePerWriteCall;
        let mut writer = transport
            .request(mode, MessageKind::Flush, false)
            .map_err(|error| self.remote().wire("push", &gix::Error::from_error(error)))?;
        let hex = |id: Option<ObjectId>| id.unwrap_or(gix::hash::Kind::Sha1.null());
        for (
            n,
            RefUpdate {
                reference,
                old,
                new,
            },
        ) in updates.iter().enumerate()
        {
            let mut line = format!("{} {} {reference}", hex(*old), hex(*new)).into_bytes();
            if n == 0 {
                line.extend_from_slice(
                    format!(
                        "\0 {} agent=tagboat/{}",
                        abilities.join(" "),
                        env!("CARGO_PKG_VERSION")
                    )
                    .as_bytes(),
                );
            }
            writer.write_all(&line).map_err(|error| lost(&error))?;
        }
        writer
            .write_message(MessageKind::Flush)
            .map_err(|error| lost(&error))?;
        let (mut body, mut reader) = writer.into_parts();
        body.write_all(data)
            .and_then(|()| body.flush())
            .map_err(|error| lost(&error))?;
        // The request is complete only when its writer is gone: reading before that would wait for
        // ever.
        drop(body);
        reader.reset(Protocol::V1);
        let side_band = abilities.contains(&"side-band-64k");
        if side_band {
            reader.set_progress_handler(Some(Box::new(|_, text: &[u8]| {
                let mut said = said.borrow_mut();
                if said.len() < 4096 {
                    said.extend_from_slice(text);
                    said.push(b'\n');
                }
                ControlFlow::Continue(())
            })));
        }
        let mut report = Vec::new();
        // A status is one line per reference; a longer line is invalid.
        (&mut reader)
            .take(1 << 20)
            .read_to_end(&mut report)
            .map_err(|error| lost(&error))?;
        drop(reader);
        if side_band {
            report = unwrap(&report)
                .ok_or_else(|| self.lost(&std::io::Error::other("the report is cut off")))?;
        }
        Ok((
            report,
            String::from_utf8_lossy(&said.into_inner()).into_owned(),
        ))
    }

    fn outcome(
        &self,
        updates: &[RefUpdate],
        report: &[u8],
        said: &str,
    ) -> Result<PushOutcome, GitError> {
        let mut unpacked = None;
        let mut status: Vec<(BString, Option<String>)> = Vec::new();
        for line in report.lines() {
            if let Some(result) = line.strip_prefix(b"unpack ") {
                unpacked = Some(String::from_utf8_lossy(result).into_owned());
            } else if let Some(name) = line.strip_prefix(b"ok ") {
                status.push((name.into(), None));
            } else if let Some((name, why)) = line
                .strip_prefix(b"ng ")
                .and_then(|rest| rest.split_once_str(" "))
            {
                status.push((name.into(), Some(String::from_utf8_lossy(why).into_owned())));
            }
        }
        let Some(unpacked) = unpacked else {
            return Err(self.lost(&std::io::Error::other("the server reported no status")));
        };
        let mut refusals = Vec::new();
        for update in updates {
            match status.iter().find(|(name, _)| *name == update.reference) {
                Some((_, None)) if unpacked == "ok" => {}
                Some((_, Some(why))) => {
                    let told = said.trim();
                    let text = if told.is_empty() {
                        why.clone()
                    } else {
                        format!("{why} ({told})")
                    };
                    refusals.push(self.refusal(update, &text, blame(why, told)));
                }
                _ if unpacked != "ok" => {
                    refusals.push(self.refusal(update, &unpacked, ErrorKind::Remote))
                }
                _ => {
                    return Err(self.lost(&std::io::Error::other(format!(
                        "the server reported nothing about {}",
                        update.reference
                    ))));
                }
            }
        }
        Ok(if refusals.is_empty() {
            PushOutcome::Done
        } else {
            PushOutcome::Rejected(refusals)
        })
    }

    fn refusal(&self, update: &RefUpdate, why: &str, kind: ErrorKind) -> PushRejection {
        PushRejection {
            remote: self.remote().shown().to_owned(),
            reference: update.reference.clone(),
            why: plain(why),
            kind,
        }
    }

    /// The push has been sent, at least in part. An HTTP status of the 4xx says that nothing
    /// happened; all else says nothing.
    fn lost(&self, error: &(dyn std::error::Error + 'static)) -> GitError {
        let why = chain(error);
        let refused = why
            .find("HTTP status 4")
            .map(|at| &why[at + "HTTP status ".len()..]);
        let remote = self.remote().shown().to_owned();
        match refused.and_then(|status| status.get(..3)) {
            Some("401") => GitError::Denied {
                remote,
                doing: "push",
                why: "the credentials were not accepted (401)".into(),
            },
            Some("403") => GitError::Denied {
                remote,
                doing: "push",
                why: "forbidden (403)".into(),
            },
            Some("404") => GitError::Denied {
                remote,
                doing: "push",
                why: "not found (404)".into(),
            },
            // 408 and 429 are answers of the way there, not of the server.
            Some("408" | "429") | None => GitError::Unanswered { remote, why },
            Some(_) => GitError::Wire {
                remote,
                doing: "push",
                why,
            },
        }
    }
}

/// The data of nested packet lines, up to the flush; nothing where the last is cut off.
fn unwrap(mut nested: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((length, rest)) = nested.split_at_checked(4) {
        match usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()? {
            0 => return Some(out),
            length => {
                let (line, rest) = rest.split_at_checked(length.checked_sub(4)?)?;
                out.extend_from_slice(line.trim_end_with(|c| c == '\n'));
                out.push(b'\n');
                nested = rest;
            }
        }
    }
    nested.is_empty().then_some(out)
}

/// Classifies a rejection by the messages that git, GitHub, GitLab and Gitea use.
fn blame(why: &str, told: &str) -> ErrorKind {
    let (why, told) = (why.to_lowercase(), told.to_lowercase());
    let says = |text: &str, words: &[&str]| words.iter().any(|word| text.contains(word));
    let rules = [
        "hook declined",
        "protected",
        "prohibited",
        "denied",
        "deny",
        "not allowed",
        "currently checked out",
        "violation",
        "gh006",
        "gh013",
    ];
    let races = [
        "fetch first",
        "non-fast-forward",
        "stale",
        "failed to update ref",
        "cannot lock",
        "failed to lock",
        "incorrect old value",
        "already exists",
        "reference does not exist",
        "is at ",
        "atomic",
        "transaction",
    ];
    match () {
        () if says(&why, &rules) => ErrorKind::Config,
        () if says(&why, &races) => ErrorKind::Conflict,
        () if says(&told, &rules) => ErrorKind::Config,
        () if says(&told, &races) => ErrorKind::Conflict,
        () => ErrorKind::Remote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_refusal_texts_are_classified() {
        for (why, told, kind) in [
            (
                "failed to update ref",
                "error: cannot lock ref 'refs/heads/main': is at 1 but expected 2",
                ErrorKind::Conflict,
            ),
            ("incorrect old value provided", "", ErrorKind::Conflict),
            ("non-fast-forward", "", ErrorKind::Conflict),
            (
                "pre-receive hook declined",
                "no bots here",
                ErrorKind::Config,
            ),
            (
                "protected branch hook declined",
                "error: GH006: Protected branch update failed",
                ErrorKind::Config,
            ),
            ("branch is currently checked out", "", ErrorKind::Config),
            (
                "unpacker error",
                "No space left on device",
                ErrorKind::Remote,
            ),
            ("something else", "", ErrorKind::Remote),
        ] {
            assert_eq!(blame(why, told), kind, "{why} {told}");
        }
    }

    #[test]
    fn push_refusal_for_signature_has_hint() {
        for (why, expected) in [
            (
                "GH006: Protected branch update failed. Commits must have verified signatures.",
                "repositories[].signingKey",
            ),
            (
                "pre-receive hook declined: GitLab: Commit must be signed with a GPG key",
                "repositories[].signingKey",
            ),
            (
                "branch main is protected from unverified commit 0123456",
                "repositories[].signingKey",
            ),
            (
                "pre-receive hook declined: a Signed-off-by line is missing",
                "Signed-off-by: NAME",
            ),
            (
                "protected branch hook declined: GH006: Changes must be made through a pull request",
                "let it open pull requests",
            ),
            (
                "pre-receive hook declined: design freeze, you must sign in first",
                "let it open pull requests",
            ),
        ] {
            let rejection = PushRejection {
                remote: "https://example.com/fleet.git".to_owned(),
                reference: "refs/heads/main".to_owned(),
                why: why.to_owned(),
                kind: blame(why, ""),
            };
            let hint = rejection.hint().unwrap();
            assert!(hint.contains(expected), "{why}: {hint}");
        }
    }

    #[test]
    fn push_report_must_be_complete() {
        assert_eq!(
            unwrap(b"000eunpack ok\n0013ok refs/heads/m0000").unwrap(),
            b"unpack ok\nok refs/heads/m\n"
        );
        for bad in ["000eunpack", "zzzz", "0003", "00", "000eunpack ok\n0012ok"] {
            assert!(unwrap(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
