//! ImageUpdateAutomation as an Environment.

use super::{AUTOMATION, FluxImport};
use crate::spec::{
    application::folder,
    document::SpecReader,
    environment::{
        ChangeGroup, CommitAuthor, Environment, Paths, ReferenceScope, WriteMode, read_selector,
    },
    flux_raw::{AutomationSpec, FluxCommit, FluxDeclaration, FluxPush, GitSpec, UpdateSpec},
    policy::name_of,
};

impl FluxImport {
    pub(super) fn automation(&mut self, at: &mut SpecReader<'_>, branch: Option<&str>) {
        let Some(FluxDeclaration { metadata, spec, .. }) =
            at.shape::<FluxDeclaration<AutomationSpec>>(&AUTOMATION)
        else {
            return;
        };
        let AutomationSpec {
            source_ref,
            git,
            interval,
            policy_selector,
            update,
            suspend,
        } = spec;
        let name = name_of(at, &metadata.into());
        if source_ref.is_some() {
            at.warn(
                "/spec/sourceRef",
                "sourceRef is not read; the automation works on the repository its file is in",
            );
        }
        if interval.is_some() {
            at.warn(
                "/spec/interval",
                "interval is not read; an update follows every scan that finds something new",
            );
        }
        let author = git.and_then(|git| author(at, git, branch));
        let path = update_path(at, update);
        let selector = read_selector(at, "/spec/policySelector", policy_selector);
        if at.failed() {
            return;
        }
        let (Some(name), Some(path), Some(selector)) = (name, path, selector) else {
            return;
        };
        let glob = if path.is_empty() {
            "**".to_owned()
        } else {
            format!("{}/**", globset::escape(&path))
        };
        let Some(paths) = at.check(
            "/spec/update/path",
            Paths::new(&[glob]).map_err(|(_, why)| why),
        ) else {
            return;
        };
        self.environments.push(Environment {
            name: name.to_string(),
            place: at.document.place("/metadata/name"),
            paths,
            selector,
            references: ReferenceScope::Markers,
            via: WriteMode::Commit,
            group: ChangeGroup::All,
            windows: Vec::new(),
            allow_downgrade: false,
            author,
            imported: true,
            suspend,
        });
    }
}

/// Returns the author of commits. Branches are tagboat's own, so other settings of Git are refused
/// or without effect.
fn author(at: &mut SpecReader<'_>, git: GitSpec, branch: Option<&str>) -> Option<CommitAuthor> {
    let checked_out = git.checkout.and_then(|checkout| checkout.reference.branch);
    if let (Some(wanted), Some(actual)) = (&checked_out, branch)
        && wanted != actual
    {
        at.error(
            "/spec/git/checkout/ref/branch",
            format!("this automation is for the branch {wanted:?}, tagboat.yaml says {actual:?}; list the repository once for each branch"),
        );
    }
    if let Some(push) = &git.push {
        check_push(at, push, checked_out.as_deref().or(branch));
    }
    let commit = git.commit?;
    warn_of_unread(at, &commit);
    commit.author.map(|author| CommitAuthor {
        name: author.name.unwrap_or_else(|| author.email.clone()),
        email: author.email,
    })
}

fn check_push(at: &mut SpecReader<'_>, push: &FluxPush, target: Option<&str>) {
    if let (Some(pushed), Some(target)) = (push.branch.as_deref(), target)
        && pushed != target
    {
        at.error(
            "/spec/git/push/branch",
            "pushing to another branch is not done; write an Environment with update.via: pullRequest, which opens the request, too",
        );
    }
    if push.refspec.is_some() {
        at.error(
            "/spec/git/push/refspec",
            "refspecs are not read; write an Environment with update.via: commit or pullRequest",
        );
    }
    if push.options.is_some() {
        at.warn("/spec/git/push/options", "push options are not sent");
    }
}

fn warn_of_unread(at: &mut SpecReader<'_>, commit: &FluxCommit) {
    for (field, is_written, instead) in [
        (
            "messageTemplate",
            commit.message_template.is_some(),
            "repositories[].message (a Jinja template)",
        ),
        (
            "messageTemplateValues",
            commit.message_template_values.is_some(),
            "repositories[].message",
        ),
        (
            "signingKey",
            commit.signing_key.is_some(),
            "repositories[].signingKey",
        ),
    ] {
        if is_written {
            at.warn(
                &format!("/spec/git/commit/{field}"),
                format!("{field} is not read, tagboat writes its own message and signs with its own key; write {instead} in tagboat.yaml"),
            );
        }
    }
}

/// Returns the folder of files that the automation updates; the empty path is the whole repository.
fn update_path(at: &mut SpecReader<'_>, update: Option<UpdateSpec>) -> Option<String> {
    let Some(update) = update else {
        return Some(String::new());
    };
    if update
        .strategy
        .as_deref()
        .is_some_and(|strategy| strategy != "Setters")
    {
        at.error(
            "/spec/update/strategy",
            "only the strategy Setters is known",
        );
    }
    let path = update.path.as_deref().unwrap_or(".");
    folder(at, "/spec/update/path", path)
}
