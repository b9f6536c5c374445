//! Drafts as text: policies, Environments, the process file. All of it passes `tagboat check`.

use super::{places::EnvironmentDraft, way::PolicyRule};
use crate::core::{image::ImageRepository, name::Name};
use std::fmt::Write;

/// The policy of one image. `notes` are said in comments.
pub(super) fn policy(
    name: &Name,
    image: &ImageRepository,
    way: &PolicyRule,
    notes: &[String],
) -> String {
    let mut text = format!(
        "# Drafted by tagboat init from {}: {}.\n",
        way.from, way.takes
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
        "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: {}{namespace}}}\nspec:\n  image: {}\n",
        scalar(name.name()),
        scalar(image.as_str())
    );
    if let Some((pattern, extract)) = &way.filter {
        let extract = extract
            .as_ref()
            .map_or(String::new(), |extract| format!(", extract: '{extract}'"));
        let _ = writeln!(
            text,
            "  filterTags: {{pattern: '{}'{extract}}}",
            pattern.replace('\'', "''")
        );
    }
    let _ = writeln!(text, "  policy: {{{}}}", way.policy);
    text.push_str("  # minimumAge: 72h      # wait until a tag has been there for so long\n");
    text
}

/// One Environment for each place.
pub(super) fn environments(places: &[EnvironmentDraft]) -> String {
    let mut text = String::from(
        "# Drafted by tagboat init: where images are written, and how. A file belongs to one Environment.\n\
         # For completion in an editor write `tagboat schema` to a file; `tagboat schema --help` says how to name it here.\n",
    );
    for (index, place) in places.iter().enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        let paths: Vec<String> = place
            .paths
            .iter()
            .map(|path| format!("'{}'", path.replace('\'', "''")))
            .collect();
        let _ = write!(
            text,
            "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: {}}}\nspec:\n  paths: [{}]\n  update:\n",
            scalar(&place.name),
            paths.join(", ")
        );
        if place.is_production() {
            text.push_str("    # via: pullRequest is not yet there: until then this commits to the branch itself.\n");
        }
        text.push_str("    via: commit\n");
        text.push_str("    # windows: [{cron: '0 9 * * 1-5', duration: 8h, timeZone: Europe/Berlin}]   # commit only then\n");
    }
    text
}

/// The process file, with places to fill in. `folder`: whether all declarations lie under
/// `policies/`.
pub(super) fn process(folder: bool) -> String {
    let policies = if folder {
        "    policies: policies\n"
    } else {
        ""
    };
    format!(
        "# Drafted by tagboat init: how to reach things. Then: tagboat plan, tagboat run --once, tagboat run.\n\
         repositories:\n\
         \x20 - url: https://git.example.com/team/config.git   # TODO: the URL of this repository\n\
         \x20   branch: main\n\
         {policies}\
         \x20   # token: {{env: GIT_TOKEN}}                      # secrets come from the environment or from files\n\
         # registries:                                        # those that need more than anonymous HTTPS\n\
         #   - prefix: ghcr.io/acme\n\
         #     credentials: {{token: {{env: REGISTRY_TOKEN}}}}\n"
    )
}

/// A plain scalar where that is a string for every reader of YAML, else a quoted one.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || matches!(b, b'-' | b'.' | b'/' | b':' | b'_')
        })
        && !matches!(
            text,
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}
