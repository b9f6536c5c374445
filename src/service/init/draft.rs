//! Drafts as text: policies, Environments, settings. All of it passes `tagboat check`.

use super::{
    PolicyDraft,
    environments::{EnvironmentDraft, ReviewReason},
    origin::Origin,
};
use crate::spec::ForgeKind;
use std::fmt::Write;

/// Returns the declaration of a policy; its notes become comments.
pub(super) fn policy(draft: &PolicyDraft) -> String {
    let PolicyDraft {
        name,
        image,
        rule,
        notes,
    } = draft;
    let mut text = format!(
        "# Drafted by tagboat init from {}: {}.\n",
        rule.from, rule.effect
    );
    for note in notes {
        text.push_str(&format!("# {note}\n"));
    }
    let namespace = match name.namespace() {
        "default" => String::new(),
        namespace => format!(", namespace: {}", scalar(namespace)),
    };
    let _ = write!(
        text,
        "apiVersion: tagboat.dev/v1alpha1\n\
         kind: ImagePolicy\n\
         metadata: {{name: {}{namespace}}}\n\
         spec:\n  image: {}\n",
        scalar(name.name()),
        scalar(image.as_str())
    );
    if let Some((pattern, extract)) = &rule.filter {
        let extract = match extract {
            Some(extract) => format!(", extract: '{extract}'"),
            None => String::new(),
        };
        let pattern = pattern.replace('\'', "''");
        let _ = writeln!(text, "  filterTags: {{pattern: '{pattern}'{extract}}}");
    }
    let _ = writeln!(text, "  policy: {{{}}}", rule.policy);
    text.push_str("  # minimumAge: 72h      # wait until a tag is this old\n");
    text
}

/// Returns the declarations of Environments.
pub(super) fn environments(drafts: &[EnvironmentDraft]) -> String {
    let mut text = String::from(
        "# Drafted by tagboat init: the files of each Environment, and how they are updated.\n\
         # A file belongs to one Environment. For completion in an editor, save `tagboat schema`\n\
         # to a file; `tagboat schema --help` shows how to name it here.\n",
    );
    for (index, draft) in drafts.iter().enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        let quoted = |path: &String| format!("'{}'", path.replace('\'', "''"));
        let paths: Vec<String> = draft.paths.iter().map(quoted).collect();
        let _ = write!(
            text,
            "apiVersion: tagboat.dev/v1alpha1\n\
             kind: Environment\n\
             metadata: {{name: {}}}\n\
             spec:\n  paths: [{}]\n  update:\n",
            scalar(&draft.name),
            paths.join(", ")
        );
        let (via, verb) = match draft.review {
            Some(ReviewReason::Production) => ("pullRequest", "merge"),
            Some(ReviewReason::IncludedByProduction) => {
                text.push_str("    # Production includes files of it.\n");
                ("pullRequest", "merge")
            }
            None => ("commit", "commit"),
        };
        let _ = write!(
            text,
            "    via: {via}\n    \
             # windows: [{{cron: '0 9 * * 1-5', duration: 8h, timeZone: Europe/Berlin}}]   \
             # {verb} only then\n",
        );
    }
    text
}

/// Returns settings with places to fill in. `in_folder` is true if all declarations lie below
/// `policies/`; `needs_forge` if an Environment opens pull requests.
pub(super) fn settings(in_folder: bool, origin: Option<&Origin>, needs_forge: bool) -> String {
    let mut text = String::from(
        "# Drafted by tagboat init: how to reach everything.\n\
         # Next, with -c tagboat.yaml: tagboat plan, tagboat run --once, tagboat run.\n\
         repositories:\n",
    );
    let url = match origin {
        Some(origin) => scalar(&origin.url),
        None => "https://git.example.com/team/config.git   # TODO: the URL of this repository"
            .to_owned(),
    };
    let branch = origin
        .and_then(|origin| origin.branch.as_deref())
        .unwrap_or("main");
    let _ = write!(text, "  - url: {url}\n    branch: {}\n", scalar(branch));
    if in_folder {
        text.push_str("    policies: policies\n");
    }
    let forge = origin.and_then(|origin| origin.forge);
    match forge.filter(|_| needs_forge) {
        Some(kind) => {
            let _ = write!(
                text,
                "    # TODO: set {variable}, a secret of the environment, or write {{file: PATH}}\n    \
                 forge: {{kind: {kind}, token: {{env: {variable}}}}}   # for pull requests\n",
                kind = kind.as_str(),
                variable = token_variable(kind),
            );
        }
        None if needs_forge => text.push_str(
            "    # TODO: the forge that opens pull requests: github, gitlab or gitea\n    \
             # forge: {kind: github, token: {env: FORGE_TOKEN}}\n",
        ),
        None => {}
    }
    let is_ssh = origin.is_some_and(|origin| !origin.url.starts_with("http"));
    match forge.filter(|_| needs_forge) {
        _ if is_ssh => {}
        Some(kind) => {
            let _ = writeln!(
                text,
                "    token: {{env: {}}}   # for pushes",
                token_variable(kind)
            );
        }
        None => text.push_str(
            "    # token: {env: GIT_TOKEN}   # a secret of the environment, or {file: PATH}\n",
        ),
    }
    text.push_str(
        "# registries:                   # those that need more than anonymous HTTPS\n\
         #   - prefix: ghcr.io/acme\n\
         #     credentials: {token: {env: REGISTRY_TOKEN}}\n",
    );
    text
}

/// The environment variable that a forge's own tools read their token from.
fn token_variable(kind: ForgeKind) -> &'static str {
    match kind {
        ForgeKind::Github => "GITHUB_TOKEN",
        ForgeKind::Gitlab => "GITLAB_TOKEN",
        ForgeKind::Gitea => "GITEA_TOKEN",
    }
}

/// Returns a plain scalar where every YAML reader takes that for a string, else a quoted one.
fn scalar(text: &str) -> String {
    let is_plain_byte = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b'-' | b'.' | b'/' | b':' | b'_')
    };
    // Booleans and null of YAML 1.1.
    let is_keyword = matches!(
        text,
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(is_plain_byte)
        && !is_keyword
    {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}
