//! Receives a push: commands, then a pack (`gitprotocol-pack`, "Pushing Data To a Server").

use super::{
    SandboxGitError,
    repository::{BareRepository, head, reachable, references},
    upload::{AGENT, advertise_references},
    wire::{self, Line},
};
use gix::ObjectId;
use gix_pack::{bundle::write::Options, data::input::Mode};
use std::sync::atomic::AtomicBool;

/// The answer to `info/refs?service=git-receive-pack`.
pub(super) fn advertise(repo: &gix::Repository) -> Result<Vec<u8>, SandboxGitError> {
    let mut out = Vec::new();
    wire::text(&mut out, "# service=git-receive-pack");
    wire::flush(&mut out);
    let abilities = format!(
        "report-status delete-refs side-band-64k atomic ofs-delta object-format=sha1 {AGENT}"
    );
    advertise_references(&mut out, references(repo)?.into_iter(), &abilities);
    Ok(out)
}

/// A reference, its expected old value, and its new value.
type RefCommand = (String, Option<ObjectId>, Option<ObjectId>);

/// Stores the pack, then updates the references, each by compare-and-swap.
pub(super) fn answer(
    repository: &BareRepository,
    mut body: &[u8],
) -> Result<Vec<u8>, SandboxGitError> {
    let (mut commands, mut abilities) = (Vec::<RefCommand>::new(), String::new());
    while let Some(Line::Data(line)) = wire::next(&mut body)? {
        let line = String::from_utf8_lossy(line).into_owned();
        let (line, asked) = line.split_once('\0').unwrap_or((&line, ""));
        abilities.push_str(asked);
        commands.push(command(line)?);
    }
    // A body of one flush is how git asks, before a long push, whether it is let in.
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    let asked = |ability: &str| abilities.split(' ').any(|word| word == ability);
    let writing = repository.lock();
    let unpacked = take_in(repository, body);
    let mut report = Vec::new();
    wire::text(
        &mut report,
        &format!(
            "unpack {}",
            unpacked
                .as_ref()
                .map_or_else(ToString::to_string, |()| "ok".into())
        ),
    );
    let checked: Vec<Result<(), String>> = commands
        .iter()
        .map(|command| {
            unpacked
                .clone()
                .map_err(|_| "unpacker error".to_owned())
                .and_then(|()| check(repository, command))
        })
        .collect();
    let results: Vec<Result<(), String>> = if asked("atomic") {
        let all =
            checked.iter().all(Result::is_ok) && repository.change(&writing, &commands).is_ok();
        checked
            .into_iter()
            .map(|one| {
                one.and_then(|()| {
                    if all {
                        Ok(())
                    } else {
                        Err("atomic transaction failed".into())
                    }
                })
            })
            .collect()
    } else {
        let one = |(checked, command): (Result<(), String>, &RefCommand)| {
            checked.and_then(|()| {
                let changed = repository.change(&writing, std::slice::from_ref(command));
                changed.map_err(|_| "failed to update ref".to_owned())
            })
        };
        checked.into_iter().zip(&commands).map(one).collect()
    };
    for ((name, ..), result) in commands.iter().zip(results) {
        match result {
            Ok(()) => wire::text(&mut report, &format!("ok {name}")),
            Err(why) => wire::text(&mut report, &format!("ng {name} {why}")),
        }
    }
    wire::flush(&mut report);
    if !asked("report-status") {
        return Ok(Vec::new());
    }
    if !asked("side-band-64k") {
        return Ok(report);
    }
    let mut out = Vec::new();
    wire::band(&mut out, &report);
    wire::flush(&mut out);
    Ok(out)
}

fn command(line: &str) -> Result<RefCommand, SandboxGitError> {
    let wrong = || SandboxGitError::new("a command is malformed");
    let mut words = line.splitn(3, ' ');
    let mut id = || -> Result<Option<ObjectId>, SandboxGitError> {
        let id =
            ObjectId::from_hex(words.next().unwrap_or_default().as_bytes()).map_err(|_| wrong())?;
        Ok((!id.is_null()).then_some(id))
    };
    let (old, new) = (id()?, id()?);
    let name = words.next().ok_or_else(wrong)?;
    Ok((name.to_owned(), old, new))
}

/// Indexes the pack into the object store: every object is unpacked and hashed, and a pack that
/// does not add up leaves nothing.
fn take_in(repository: &BareRepository, pack: &[u8]) -> Result<(), SandboxGitError> {
    // "PACK", version, count: an empty pack brings nothing.
    if pack.is_empty() || (pack.starts_with(b"PACK") && pack.get(8..12) == Some(&[0; 4])) {
        return Ok(());
    }
    let repo = repository.open()?;
    let outcome = gix_pack::Bundle::write_to_directory(
        &mut std::io::BufReader::new(pack),
        Some(&repository.dir().join("objects/pack")),
        &mut gix::progress::Discard,
        &AtomicBool::new(false),
        Some(repo.objects),
        gix::hash::Kind::Sha1,
        Options {
            thread_limit: Some(1),
            iteration_mode: Mode::Verify,
            alloc_limit_bytes: Some(64 << 20),
            ..Default::default()
        },
    )
    .map_err(|error| SandboxGitError::new(crate::io::git::plain(&error.to_string())))?;
    if let Some(keep) = outcome.keep_path {
        // It protects a pack from a repack until its references exist; nothing repacks here.
        let _ = std::fs::remove_file(keep);
    }
    Ok(())
}

/// Checks that the reference may move and that its new commit is complete.
fn check(repository: &BareRepository, (name, old, new): &RefCommand) -> Result<(), String> {
    let repo = repository.open().map_err(|error| error.to_string())?;
    if !name.starts_with("refs/") || gix::validate::reference::name(name.as_str().into()).is_err() {
        return Err("funny refname".into());
    }
    let present = repo
        .try_find_reference(name.as_str())
        .ok()
        .flatten()
        .and_then(|reference| Some(reference.try_id()?.detach()));
    if present != *old {
        return Err("failed to update ref".into());
    }
    match new {
        None if head(&repo).is_some_and(|(head, _)| head == *name) => {
            Err("deletion of the current branch prohibited".into())
        }
        None => Ok(()),
        Some(new) => {
            let known: Vec<ObjectId> = references(&repo)
                .unwrap_or_default()
                .into_iter()
                .map(|(_, id)| id)
                .collect();
            reachable(&repo, &[*new], &known)
                .map(drop)
                .map_err(|_| "missing necessary objects".into())
        }
    }
}
