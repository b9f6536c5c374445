//! Serves a fetch: protocol versions 0 and 1 (`gitprotocol-pack`), and 2 (`gitprotocol-v2`).

use super::{
    SandboxGitError,
    repository::{head, reachable, references},
    wire::{self, Line},
};
use gix::{ObjectId, prelude::FindExt};

/// The answer to `info/refs?service=git-upload-pack`.
pub(super) fn advertise(repo: &gix::Repository, version: u8) -> Result<Vec<u8>, SandboxGitError> {
    let mut out = Vec::new();
    wire::text(&mut out, "# service=git-upload-pack");
    wire::flush(&mut out);
    if version == 2 {
        for line in [
            "version 2",
            AGENT,
            "ls-refs=unborn",
            "fetch",
            "object-format=sha1",
        ] {
            wire::text(&mut out, line);
        }
        wire::flush(&mut out);
        return Ok(out);
    }
    if version == 1 {
        wire::text(&mut out, "version 1");
    }
    let head = head(repo);
    let mut abilities = format!("side-band-64k ofs-delta no-progress object-format=sha1 {AGENT}");
    if let Some((name, _)) = &head {
        abilities.push_str(&format!(" symref=HEAD:{name}"));
    }
    let lines = head
        .map(|(_, id)| ("HEAD".to_owned(), id))
        .into_iter()
        .chain(references(repo)?);
    advertise_references(&mut out, lines, &abilities);
    Ok(out)
}

/// References as versions 0 and 1 list them, abilities behind the first.
pub(super) fn advertise_references(
    out: &mut Vec<u8>,
    references: impl Iterator<Item = (String, ObjectId)>,
    abilities: &str,
) {
    let mut first = true;
    for (name, id) in references {
        let abilities = if first {
            format!("\0{abilities}")
        } else {
            String::new()
        };
        wire::text(out, &format!("{id} {name}{abilities}"));
        first = false;
    }
    if first {
        wire::text(
            out,
            &format!(
                "{} capabilities^{{}}\0{abilities}",
                gix::hash::Kind::Sha1.null()
            ),
        );
    }
    wire::flush(out);
}

pub(super) const AGENT: &str = concat!("agent=tagboat-sandbox/", env!("CARGO_PKG_VERSION"));

/// The wants and haves of a fetch.
#[derive(Default)]
struct UploadRequest {
    wants: Vec<ObjectId>,
    common: Vec<ObjectId>,
    done: bool,
    side_band: bool,
}

impl UploadRequest {
    fn take(&mut self, repo: &gix::Repository, line: &[u8]) -> Result<(), SandboxGitError> {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split([' ', '\0']);
        let id = |text: Option<&str>| {
            ObjectId::from_hex(text.unwrap_or_default().as_bytes())
                .map_err(|_| SandboxGitError::new("an object id is malformed"))
        };
        match words.next() {
            Some("want") => {
                let want = id(words.next())?;
                if repo.find_commit(want).is_err() {
                    return Err(SandboxGitError::new(format!("not our ref {want}")));
                }
                self.wants.push(want);
                self.side_band |= words.any(|word| word == "side-band-64k");
            }
            Some("have") => {
                let have = id(words.next())?;
                if repo.find_commit(have).is_ok() {
                    self.common.push(have);
                }
            }
            Some("done") => self.done = true,
            Some("shallow" | "deepen" | "deepen-since" | "deepen-not" | "filter") => {
                return Err(SandboxGitError::new(
                    "shallow and partial clones are not served",
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The answer to a request of version 0 or 1. Without `multi_ack` the first common commit is
/// acknowledged, once.
pub(super) fn answer_v0(
    repo: &gix::Repository,
    mut body: &[u8],
) -> Result<Vec<u8>, SandboxGitError> {
    let (mut asked, mut out) = (UploadRequest::default(), Vec::new());
    while let Some(line) = wire::next(&mut body)? {
        if let Line::Data(line) = line
            && let Err(error) = asked.take(repo, line)
        {
            return Ok(refusal(&error));
        }
    }
    if asked.wants.is_empty() {
        return Ok(out);
    }
    match asked.common.first() {
        Some(common) => wire::text(&mut out, &format!("ACK {common}")),
        None => wire::text(&mut out, "NAK"),
    }
    if asked.done {
        let pack = pack(repo, &asked)?;
        if asked.side_band {
            wire::band(&mut out, &pack);
            wire::flush(&mut out);
        } else {
            out.extend_from_slice(&pack);
        }
    }
    Ok(out)
}

/// The answer to a command of version 2.
pub(super) fn answer_v2(
    repo: &gix::Repository,
    mut body: &[u8],
) -> Result<Vec<u8>, SandboxGitError> {
    let (mut command, mut arguments, mut behind) = (Vec::new(), Vec::new(), false);
    while let Some(line) = wire::next(&mut body)? {
        match line {
            Line::Data(line) if behind => arguments.push(line),
            Line::Data(line) => command.extend(line.strip_prefix(b"command=").map(<[u8]>::to_vec)),
            Line::Delimiter => behind = true,
            Line::Flush => break,
        }
    }
    match command.first().map(Vec::as_slice) {
        Some(b"ls-refs") => list(repo, &arguments),
        Some(b"fetch") => fetch(repo, &arguments),
        // An empty request ends a conversation.
        None => Ok(Vec::new()),
        Some(other) => Ok(refusal(&SandboxGitError::new(format!(
            "unknown command {}",
            other.escape_ascii()
        )))),
    }
}

fn list(repo: &gix::Repository, arguments: &[&[u8]]) -> Result<Vec<u8>, SandboxGitError> {
    let prefixes: Vec<&[u8]> = arguments
        .iter()
        .filter_map(|line| line.strip_prefix(b"ref-prefix "))
        .collect();
    let wanted = |name: &str| {
        prefixes.is_empty()
            || prefixes
                .iter()
                .any(|prefix| name.as_bytes().starts_with(prefix))
    };
    let symrefs = arguments.contains(&b"symrefs".as_slice());
    let mut out = Vec::new();
    if wanted("HEAD")
        && let Some((name, id)) = head(repo)
    {
        let target = if symrefs {
            format!(" symref-target:{name}")
        } else {
            String::new()
        };
        wire::text(&mut out, &format!("{id} HEAD{target}"));
    }
    for (name, id) in references(repo)? {
        if wanted(&name) {
            wire::text(&mut out, &format!("{id} {name}"));
        }
    }
    wire::flush(&mut out);
    Ok(out)
}

fn fetch(repo: &gix::Repository, arguments: &[&[u8]]) -> Result<Vec<u8>, SandboxGitError> {
    let (mut asked, mut out) = (UploadRequest::default(), Vec::new());
    for line in arguments {
        if let Err(error) = asked.take(repo, line) {
            return Ok(refusal(&error));
        }
    }
    if !asked.done {
        wire::text(&mut out, "acknowledgments");
        if asked.common.is_empty() {
            wire::text(&mut out, "NAK");
            wire::flush(&mut out);
            return Ok(out);
        }
        for common in &asked.common {
            wire::text(&mut out, &format!("ACK {common}"));
        }
        wire::text(&mut out, "ready");
        wire::delimiter(&mut out);
    }
    wire::text(&mut out, "packfile");
    wire::band(&mut out, &pack(repo, &asked)?);
    wire::flush(&mut out);
    Ok(out)
}

fn pack(repo: &gix::Repository, asked: &UploadRequest) -> Result<Vec<u8>, SandboxGitError> {
    let mut objects = Vec::new();
    for id in reachable(repo, &asked.wants, &asked.common)? {
        let mut data = Vec::new();
        let kind = repo
            .objects
            .find(&id, &mut data)
            .map_err(SandboxGitError::new)?
            .kind;
        objects.push((id, kind, data));
    }
    crate::io::git::pack(&objects).map_err(SandboxGitError::new)
}

fn refusal(error: &SandboxGitError) -> Vec<u8> {
    let mut out = Vec::new();
    wire::text(&mut out, &format!("ERR {error}"));
    out
}
