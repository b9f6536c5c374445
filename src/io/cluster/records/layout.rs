//! The layout of a record in ConfigMaps: head and parts.

use super::*;

pub(super) fn digest(bytes: &[u8]) -> String {
    crate::core::text::hex(&Sha256::digest(bytes))
}

/// The digest of all data, names included.
pub(super) fn digest_of(data: &BTreeMap<String, String>) -> String {
    digest(&serde_json::to_vec(data).unwrap_or_default())
}

/// Data cut into pieces that fit, in order.
pub(super) fn pieces(
    data: &BTreeMap<String, String>,
    room: usize,
) -> Vec<BTreeMap<String, String>> {
    let mut pieces = vec![BTreeMap::new()];
    let mut left = room;
    for (name, text) in data {
        let mut rest = text.as_str();
        loop {
            // A name without room for one more character starts the next piece.
            if left < name.len() + 4 && left < room {
                pieces.push(BTreeMap::new());
                left = room;
            }
            let mut cut = rest.len().min(left.saturating_sub(name.len()).max(4));
            while !rest.is_char_boundary(cut) {
                cut -= 1;
            }
            let (now, later) = rest.split_at(cut);
            if let Some(piece) = pieces.last_mut() {
                piece.insert(name.clone(), now.to_owned());
            }
            left = left.saturating_sub(name.len() + now.len());
            rest = later;
            if rest.is_empty() {
                break;
            }
            pieces.push(BTreeMap::new());
            left = room;
        }
    }
    pieces
}

/// A ConfigMap of a record, as far as it matters: thousands are read at once, and most of each is
/// the server's own.
pub(super) struct ConfigMapBody {
    pub(super) application: Name,
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) digest: String,
    pub(super) parts: usize,
    pub(super) data: BTreeMap<String, String>,
}

impl ConfigMapBody {
    /// Parses a record. Foreign ConfigMaps with our label, and records moved by hand, are ignored.
    pub(super) fn of(object: &Object) -> Option<Self> {
        let application = object
            .annotation(&note("application"))?
            .parse::<Name>()
            .ok()?;
        if object.namespace() != Some(application.namespace()) {
            return None;
        }
        let data = object
            .value()
            .get("data")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        Some(Self {
            application,
            name: object.name().to_owned(),
            version: object.resource_version().map(str::to_owned),
            digest: object
                .annotation(&note("digest"))
                .unwrap_or_default()
                .to_owned(),
            parts: object
                .annotation(&note("parts"))
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            data: data
                .filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())))
                .collect(),
        })
    }
}

/// Puts records together from all ConfigMaps that carry the label.
pub(super) fn assemble(maps: impl IntoIterator<Item = ConfigMapBody>) -> Vec<ApplicationRecord> {
    let mut by_application: BTreeMap<
        Name,
        (Option<ConfigMapBody>, BTreeMap<String, ConfigMapBody>),
    > = BTreeMap::new();
    for map in maps {
        let (head, parts) = by_application.entry(map.application.clone()).or_default();
        if map.name == head_name(&map.application) {
            *head = Some(map);
        } else {
            parts.insert(map.name.clone(), map);
        }
    }
    by_application
        .into_iter()
        .map(|(name, (head, parts))| record(name, head, parts))
        .collect()
}

pub(super) fn record(
    application: Name,
    head: Option<ConfigMapBody>,
    mut parts: BTreeMap<String, ConfigMapBody>,
) -> ApplicationRecord {
    let mut record = ApplicationRecord::new(application, BTreeMap::new());
    let Some(head) = head else {
        record.leftovers = parts.into_keys().collect();
        return record;
    };
    record.version = head.version;
    if head.parts == 0 {
        record.data = head.data;
    }
    for index in 1..=head.parts {
        let name = part_name(&record.application, &head.digest, index);
        match parts.remove(&name) {
            Some(part) => {
                record.parts.push(name);
                for (name, text) in part.data {
                    record.data.entry(name).or_default().push_str(&text);
                }
            }
            None => {
                record.damaged = Some(format!(
                    "ConfigMap {}/{name} is missing",
                    record.application.namespace()
                ))
            }
        }
    }
    if record.damaged.is_none() && digest_of(&record.data) != head.digest {
        let place = format!("{}/{}", record.application.namespace(), head.name);
        record.damaged = Some(format!(
            "ConfigMap {place} was changed by another program: its digest does not match"
        ));
    }
    record.leftovers = parts.into_keys().collect();
    record
}

pub(super) fn part_name(application: &Name, digest: &str, index: usize) -> String {
    format!(
        "{}.{}.{index}",
        head_name(application),
        digest.get(..8).unwrap_or("none")
    )
}
