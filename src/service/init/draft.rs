//! Drafts as text: policies, Environments, settings. All of it passes `tagboat check`.

use super::{PolicyDraft, environments::EnvironmentDraft};
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
        if draft.is_production() {
            text.push_str("    # With a forge in tagboat.yaml, prefer via: pullRequest here.\n");
        }
        text.push_str("    via: commit\n");
        text.push_str(
            "    # windows: [{cron: '0 9 * * 1-5', duration: 8h, timeZone: Europe/Berlin}]   \
             # commit only then\n",
        );
    }
    text
}

/// Returns settings with places to fill in. `in_folder` is true if all declarations lie below
/// `policies/`.
pub(super) fn settings(in_folder: bool) -> String {
    let policies = if in_folder {
        "    policies: policies\n"
    } else {
        ""
    };
    format!(
        "# Drafted by tagboat init: how to reach everything.\n\
         # Next: tagboat plan, tagboat run --once, tagboat run.\n\
         repositories:\n\
         \x20 - url: https://git.example.com/team/config.git   # TODO: the URL of this repository\n\
         \x20   branch: main\n\
         {policies}\
         \x20   # token: {{env: GIT_TOKEN}}   # a secret of the environment, or {{file: PATH}}\n\
         # registries:                   # those that need more than anonymous HTTPS\n\
         #   - prefix: ghcr.io/acme\n\
         #     credentials: {{token: {{env: REGISTRY_TOKEN}}}}\n"
    )
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
