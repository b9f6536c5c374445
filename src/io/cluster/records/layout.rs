//! The layout of a record in ConfigMaps: names, head and parts. Pure.

use super::{ApplicationRecord, note};
use crate::{
    core::name::{Name, is_label},
    objects::{object::Object, plan::RECORD_PREFIX},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};

/// The longest name of a record that is written out. Parts add a digest and a number.
const LONGEST_NAME: usize = 200;

/// The name of the head, as "tagboat-record.shop.web".
///
/// A namespace has no dot, so two Applications never share a name. One that is no namespace of
/// Kubernetes, and a long name, are replaced by a digest.
pub(super) fn head_name(application: &Name) -> String {
    format!("{RECORD_PREFIX}.{}", suffix(application))
}

/// The name of a part, as "tagboat-record-part.0a1b2c3d.1.shop.web".
pub(super) fn part_name(application: &Name, digest: &str, index: usize) -> String {
    let digest = digest.get(..8).unwrap_or("none");
    format!(
        "{RECORD_PREFIX}-part.{digest}.{index}.{}",
        suffix(application)
    )
}

fn suffix(application: &Name) -> String {
    let (namespace, name) = (application.namespace(), application.name());
    if is_label(namespace) && namespace.len() + name.len() <= LONGEST_NAME {
        format!("{namespace}.{name}")
    } else {
        let digest = digest(application.to_string().as_bytes());
        // Without a dot: no namespace and name are joined to it.
        format!("digest-{}", &digest[..32])
    }
}

/// Counts the bytes of data, names included.
pub(super) fn data_bytes(data: &BTreeMap<String, String>) -> usize {
    data.iter()
        .map(|(name, text)| name.len() + text.len())
        .sum()
}

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
    /// Why the data was dropped.
    pub(super) over: Option<String>,
}

/// The remaining budget while records are read.
pub(super) struct RecordBudget {
    /// The most bytes of one record.
    each: usize,
    /// The most bytes of all records.
    total: usize,
    read: usize,
    by_application: HashMap<Name, usize>,
}

impl RecordBudget {
    pub(super) fn new(each: usize, total: usize) -> Self {
        Self {
            each,
            total,
            read: 0,
            by_application: HashMap::new(),
        }
    }

    /// Drops the data of a ConfigMap that exceeds a bound: the others are read all the same.
    pub(super) fn bound(&mut self, mut body: ConfigMapBody) -> ConfigMapBody {
        let bytes = data_bytes(&body.data);
        let of_application = self
            .by_application
            .entry(body.application.clone())
            .or_default();
        let over = if *of_application + bytes > self.each {
            format!("it is larger than {} MiB", self.each >> 20)
        } else if self.read + bytes > self.total {
            format!(
                "the records of this cluster are larger than {} MiB together",
                self.total >> 20
            )
        } else {
            *of_application += bytes;
            self.read += bytes;
            return body;
        };
        body.data.clear();
        body.over = Some(over);
        body
    }
}

impl ConfigMapBody {
    /// Parses a record. Other ConfigMaps with our label, as copies made by hand, are ignored.
    pub(super) fn of(object: &Object) -> Option<Self> {
        let application = object
            .annotation(&note("application"))?
            .parse::<Name>()
            .ok()?;
        let suffix = suffix(&application);
        let is_named = object
            .name()
            .strip_prefix(RECORD_PREFIX)
            .and_then(|rest| rest.strip_suffix(&suffix));
        if is_named.is_none_or(|rest| !rest.starts_with(['.', '-'])) {
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
            over: None,
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
    record.unread = head.over;
    if head.parts == 0 {
        record.data = head.data;
    }
    for index in 1..=head.parts {
        let name = part_name(&record.application, &head.digest, index);
        let Some(part) = parts.remove(&name) else {
            record.damaged = Some(format!("ConfigMap {name} is missing"));
            break;
        };
        record.unread = record.unread.or(part.over);
        record.parts.push(name);
        for (name, text) in part.data {
            record.data.entry(name).or_default().push_str(&text);
        }
    }
    if record.unread.is_some() {
        record.data.clear();
    } else if record.damaged.is_none() && digest_of(&record.data) != head.digest {
        record.damaged = Some(format!(
            "ConfigMap {} was changed by another program: its digest does not match",
            head.name
        ));
    }
    record.leftovers = parts.into_keys().collect();
    record
}
