//! ConfigMaps and Secrets from files, lines and literals, and the hash of their content.

use super::{
    kustomization::{Generator, GeneratorOptions},
    node::{Fields, Node},
    problem::Problem,
    resource::{Behavior, Resource, Resources},
    source::Source,
};
use crate::{core::text::hex, objects::object::ObjectOrigin};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fmt::Write as _};

/// The longest line that Go's scanner takes.
const LONGEST_LINE: usize = 64 << 10;

/// The length of a line of base64, as kustomize wraps it.
const WRAPPED: usize = 70;

/// Makes the ConfigMap or Secret of a generator.
pub(super) fn generate(
    source: &Source<'_>,
    folder: &str,
    kind: &str,
    generator: &Generator,
    global: Option<&GeneratorOptions>,
    origin: ObjectOrigin,
) -> Result<Resource, Problem> {
    if generator.name.is_empty() {
        return Err(Problem::refused("a generator has no name"));
    }
    let is_secret = kind == "Secret";
    if !is_secret && !generator.secret_type.is_empty() {
        return Err(Problem::refused("a ConfigMap has no type"));
    }
    let mut metadata = Fields::default();
    metadata.set("name", super::resource::sure_text(&generator.name)?);
    if !generator.namespace.is_empty() {
        metadata.set(
            "namespace",
            super::resource::sure_text(&generator.namespace)?,
        );
    }
    let options = merged_options(generator.options.as_ref(), global);
    for (field, texts) in [
        ("labels", &options.labels),
        ("annotations", &options.annotations),
    ] {
        if texts.is_empty() {
            continue;
        }
        let mut map = Fields::default();
        for (name, text) in texts {
            super::resource::sure_text(name)?;
            super::resource::check_reserved(name)?;
            map.set(name, Node::text(text));
        }
        metadata.set(field, Node::Map(map));
    }
    let mut fields = Fields::default();
    fields.set("apiVersion", Node::text("v1"));
    fields.set("kind", Node::text(kind));
    fields.set("metadata", Node::Map(metadata));
    let content = content(source, folder, generator)?;
    if is_secret {
        let secret_type = match generator.secret_type.as_str() {
            "" => "Opaque",
            other => other,
        };
        fields.set("type", Node::text(secret_type));
        let mut data = Fields::default();
        for (name, bytes) in &content {
            data.push(name.clone(), Node::text(wrapped(bytes)));
        }
        fields.set("data", Node::Map(data));
    } else {
        for (name, bytes) in content {
            let (field, text) = match String::from_utf8(bytes) {
                Ok(text) => ("data", text),
                Err(error) => ("binaryData", wrapped(error.as_bytes())),
            };
            if let Some(map) = fields.map(field) {
                map.push(name, Node::text(text));
            }
        }
    }
    if options.immutable {
        fields.set("immutable", Node::boolean(true));
    }
    let mut resource = Resource::new(fields, origin);
    resource.generated = true;
    resource.hashed = !options.disable_name_suffix_hash;
    resource.behavior = match generator.behavior.as_str() {
        "merge" => Behavior::Merge,
        "replace" => Behavior::Replace,
        _ => Behavior::Create,
    };
    Ok(resource)
}

/// Adds a generated resource, or changes the one that has its identity.
pub(super) fn absorb(resources: &mut Resources, mut new: Resource) -> Result<(), Problem> {
    let id = new.id();
    let found: Vec<usize> = resources
        .0
        .iter()
        .enumerate()
        .filter(|(_, resource)| resource.any_id(|other| id.is_same(other)))
        .map(|(at, _)| at)
        .collect();
    let at = match found.as_slice() {
        [] if new.behavior == Behavior::Create => {
            resources.0.push(new);
            return Ok(());
        }
        [] => {
            return Err(Problem::refused(format!(
                "there is no {id} to merge with or to replace"
            )));
        }
        [at] => *at,
        _ => return Err(Problem::refused(format!("more than one object is {id}"))),
    };
    if new.behavior == Behavior::Create {
        return Err(Problem::refused(format!("{id} is already there")));
    }
    let old = &resources.0[at];
    inherit_metadata(&mut new, old)?;
    if new.behavior == Behavior::Merge {
        for field in ["data", "binaryData"] {
            merge_texts(&mut new.fields, &old.fields, field)?;
        }
    }
    new.behavior = old.behavior;
    new.generated = old.generated;
    new.hashed &= old.hashed;
    new.former.clone_from(&old.former);
    new.prefixes.clone_from(&old.prefixes);
    new.suffixes.clone_from(&old.suffixes);
    resources.0[at] = new;
    Ok(())
}

/// Takes over labels, annotations, name and namespace.
fn inherit_metadata(new: &mut Resource, old: &Resource) -> Result<(), Problem> {
    let Some(metadata) = new.fields.map("metadata") else {
        return Err(Problem::refused("metadata is no mapping"));
    };
    let theirs = |field: &str| old.fields.get("metadata").and_then(|node| node.get(field));
    for field in ["labels", "annotations"] {
        let mut texts = BTreeMap::new();
        for map in [theirs(field), metadata.get(field)].into_iter().flatten() {
            let Some(map) = map.as_map() else { continue };
            for (name, value) in map.iter() {
                let Some(text) = value.as_string() else {
                    return Err(Problem::unsupported(format!("metadata.{field} is no text")));
                };
                texts.insert(name.to_owned(), Node::text(text));
            }
        }
        metadata.remove(field);
        if !texts.is_empty() {
            let mut map = Fields::default();
            for (name, value) in texts {
                map.push(name, value);
            }
            metadata.set(field, Node::Map(map));
        }
    }
    metadata.set("name", Node::text(old.name()));
    match old.namespace() {
        "" => drop(metadata.remove("namespace")),
        namespace => metadata.set("namespace", Node::text(namespace)),
    }
    Ok(())
}

fn merge_texts(new: &mut Fields, old: &Fields, field: &str) -> Result<(), Problem> {
    let mut texts = BTreeMap::new();
    for map in [old.get(field), new.get(field)].into_iter().flatten() {
        let Some(map) = map.as_map() else {
            return Err(Problem::unsupported(format!("{field} is no mapping")));
        };
        for (name, value) in map.iter() {
            let Some(text) = value.as_string() else {
                return Err(Problem::unsupported(format!(
                    "{field} holds what is no text"
                )));
            };
            texts.insert(name.to_owned(), Node::text(text));
        }
    }
    new.remove(field);
    if !texts.is_empty() {
        let mut map = Fields::default();
        for (name, value) in texts {
            map.push(name, value);
        }
        new.set(field, Node::Map(map));
    }
    Ok(())
}

fn merged_options(
    local: Option<&GeneratorOptions>,
    global: Option<&GeneratorOptions>,
) -> GeneratorOptions {
    let mut options = local.cloned().unwrap_or_default();
    if let Some(global) = global {
        for (texts, more) in [
            (&mut options.labels, &global.labels),
            (&mut options.annotations, &global.annotations),
        ] {
            for (name, text) in more {
                texts.entry(name.clone()).or_insert_with(|| text.clone());
            }
        }
        options.disable_name_suffix_hash |= global.disable_name_suffix_hash;
        options.immutable |= global.immutable;
    }
    options
}

/// Reads the entries of a generator, sorted by key.
fn content(
    source: &Source<'_>,
    folder: &str,
    generator: &Generator,
) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let mut content = BTreeMap::new();
    let mut add = |key: &str, value: Vec<u8>| {
        super::resource::sure_text(key)?;
        match content.insert(key.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(Problem::refused(format!("the key {key:?} is there twice"))),
        }
    };
    for path in &generator.envs {
        let bytes = source.named(folder, path)?;
        source.keep(memchr::memchr_iter(b'\n', &bytes).count())?;
        for (key, value) in env_lines(&bytes)? {
            add(&key, value.into_bytes())?;
        }
    }
    for literal in &generator.literals {
        let Some((key, value)) = literal.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Problem::refused("a literal is no key=value"));
        };
        add(key, unquoted(value).as_bytes().to_vec())?;
    }
    for file in &generator.files {
        let (key, path) = match file.split_once('=') {
            None => (file.rsplit('/').next().unwrap_or(file), file.as_str()),
            Some((key, path)) if !key.is_empty() && !path.is_empty() && !path.contains('=') => {
                (key, path)
            }
            Some(_) => return Err(Problem::refused(format!("{file:?} is no key=path"))),
        };
        if key.is_empty() {
            return Err(Problem::unsupported(format!("{file:?} has no name")));
        }
        add(key, source.named(folder, path)?)?;
    }
    Ok(content)
}

/// Reads `key=value` lines; a key alone has the empty value.
fn env_lines(bytes: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Problem::refused("a file of variables is no UTF-8 text"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut all = Vec::new();
    for line in text.split('\n') {
        if line.len() >= LONGEST_LINE - 2 {
            return Err(Problem::refused("a line of variables is too long"));
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if key.is_empty() {
            continue;
        }
        all.push((key.to_owned(), value.to_owned()));
    }
    Ok(all)
}

fn unquoted(text: &str) -> &str {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first @ (b'"' | b'\'')), Some(last)) if bytes.len() > 1 && first == last => {
            &text[1..text.len() - 1]
        }
        _ => text,
    }
}

/// Encodes bytes, in lines if there is more than one.
fn wrapped(bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    if text.len() < WRAPPED {
        return text;
    }
    let mut lines = String::with_capacity(text.len() + text.len() / WRAPPED + 1);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(WRAPPED));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    lines
}

/// Adds the hash of the content to the names that get it.
pub(super) fn hash_names(resources: &mut Resources) -> Result<(), Problem> {
    for resource in &mut resources.0 {
        if resource.hashed {
            let name = format!("{}-{}", resource.name(), hash(resource)?);
            resource.remember_id();
            resource.set_metadata("name", &name)?;
        }
    }
    Ok(())
}

/// Returns the hash of a ConfigMap or Secret: ten characters over its content. kustomize means to
/// count the name, too, and counts the empty text.
fn hash(resource: &Resource) -> Result<String, Problem> {
    let mut encoded = String::from("{");
    match resource.kind() {
        "ConfigMap" => {
            if resource.fields.get("binaryData").is_some() {
                encoded.push_str("\"binaryData\":");
                encode_texts(&mut encoded, resource, "binaryData")?;
                encoded.push(',');
            }
            encoded.push_str("\"data\":");
            encode_texts(&mut encoded, resource, "data")?;
            encoded.push_str(",\"kind\":\"ConfigMap\",\"name\":\"\"");
        }
        "Secret" => {
            encoded.push_str("\"data\":");
            encode_texts(&mut encoded, resource, "data")?;
            encoded.push_str(",\"kind\":\"Secret\",\"name\":\"\"");
            if resource.fields.get("stringData").is_some() {
                encoded.push_str(",\"stringData\":");
                encode_texts(&mut encoded, resource, "stringData")?;
            }
            encoded.push_str(",\"type\":");
            let secret_type = resource.fields.get("type");
            match secret_type.map(Node::as_string) {
                None => encoded.push_str("\"\""),
                Some(Some(text)) => encode(&mut encoded, text),
                Some(None) => return Err(Problem::unsupported("the type of a Secret is no text")),
            }
        }
        kind => {
            return Err(Problem::unsupported(format!(
                "the name of a {kind} gets the hash of its content"
            )));
        }
    }
    encoded.push('}');
    let digest = hex(&Sha256::digest(encoded.as_bytes()));
    Ok(digest
        .chars()
        .take(10)
        .map(|c| match c {
            '0' => 'g',
            '1' => 'h',
            '3' => 'k',
            'a' => 'm',
            'e' => 't',
            c => c,
        })
        .collect())
}

/// Writes a map of texts as Go's JSON does; the empty text where there is none.
fn encode_texts(encoded: &mut String, resource: &Resource, field: &str) -> Result<(), Problem> {
    let map = match resource.fields.get(field) {
        None => {
            encoded.push_str("\"\"");
            return Ok(());
        }
        Some(Node::Map(map)) => map,
        Some(_) => return Err(Problem::unsupported(format!("{field} is no mapping"))),
    };
    let mut texts = BTreeMap::new();
    for (name, value) in map.iter() {
        let Some(text) = value.as_string() else {
            return Err(Problem::unsupported(format!(
                "{field} holds what is no text"
            )));
        };
        texts.insert(name, text);
    }
    encoded.push('{');
    for (at, (name, text)) in texts.into_iter().enumerate() {
        if at > 0 {
            encoded.push(',');
        }
        encode(encoded, name);
        encoded.push(':');
        encode(encoded, text);
    }
    encoded.push('}');
    Ok(())
}

/// Writes a text as Go's JSON does, which also escapes what HTML treats as special.
fn encode(encoded: &mut String, text: &str) {
    encoded.push('"');
    for c in text.chars() {
        match c {
            '"' => encoded.push_str("\\\""),
            '\\' => encoded.push_str("\\\\"),
            '\n' => encoded.push_str("\\n"),
            '\r' => encoded.push_str("\\r"),
            '\t' => encoded.push_str("\\t"),
            '\u{8}' => encoded.push_str("\\b"),
            '\u{c}' => encoded.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(encoded, "\\u{:04x}", u32::from(c));
            }
            c => encoded.push(c),
        }
    }
    encoded.push('"');
}
