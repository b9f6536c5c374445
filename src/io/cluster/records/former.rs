//! Records of an older tagboat, which were in the namespaces of the Applications.
//!
//! Whoever may write ConfigMaps in such a namespace can forge one. Nothing in it is believed: it
//! only says of which kinds objects with the labels of the Application may exist.

use super::{ClusterClient, ClusterError, config_maps, layout::digest, note};
use crate::{
    core::name::Name,
    io::cluster::RequestIdentity,
    objects::{
        object::{Gvk, Object},
        plan::{Inventory, RECORD_LABEL, text},
    },
};
use std::collections::BTreeSet;

/// The most kinds that are taken from a record: each costs a watch.
const KINDS: usize = 64;

/// The most parts that are read.
const PARTS: usize = 4;

/// A record of an older tagboat.
#[derive(Debug, Clone)]
pub struct FormerRecord {
    /// The kinds of the objects it names.
    pub kinds: BTreeSet<Gvk>,
    namespace: String,
    /// Its ConfigMaps, the head last.
    maps: Vec<String>,
}

/// The name that an older tagboat gave the head.
fn head_name(application: &Name) -> String {
    let name = application.name();
    if name.len() <= 200 {
        format!("tagboat-{name}")
    } else {
        format!(
            "tagboat-{}-{}",
            name[..180].trim_end_matches(['.', '-']),
            &digest(name.as_bytes())[..16]
        )
    }
}

impl ClusterClient {
    /// Reads the record that an older tagboat may have left in the Application's namespace.
    ///
    /// # Errors
    /// As every request: see [`super::ClusterProblem`].
    pub async fn former_record(
        &self,
        application: &Name,
    ) -> Result<Option<FormerRecord>, ClusterError> {
        let head = head_name(application);
        let Some(live) = self.former_map(application, &head).await? else {
            return Ok(None);
        };
        let count: usize = live
            .annotation(&note("parts"))
            .and_then(|count| count.parse().ok())
            .unwrap_or_default();
        let prefix: String = live
            .annotation(&note("digest"))
            .unwrap_or_default()
            .chars()
            .take(8)
            .collect();
        let (mut maps, mut bodies) = (Vec::new(), String::new());
        for index in 1..=count.min(PARTS) {
            let name = format!("{head}.{prefix}.{index}");
            let Some(part) = self.former_map(application, &name).await? else {
                break;
            };
            bodies.push_str(inventory_of(&part));
            maps.push(name);
        }
        bodies.push_str(inventory_of(&live));
        maps.push(head);
        Ok(Some(FormerRecord {
            kinds: kinds(&bodies),
            namespace: application.namespace().to_owned(),
            maps,
        }))
    }

    /// Removes the record of an older tagboat, its head last.
    ///
    /// # Errors
    /// As every request: see [`super::ClusterProblem`].
    pub async fn remove_former(&self, record: &FormerRecord) -> Result<(), ClusterError> {
        for name in &record.maps {
            self.remove_config_map(&record.namespace, name).await?;
        }
        Ok(())
    }

    async fn former_map(
        &self,
        application: &Name,
        name: &str,
    ) -> Result<Option<Object>, ClusterError> {
        let maps = config_maps();
        let key = maps.key(Some(application.namespace()), name);
        let found = self.get(&RequestIdentity::Own, &maps, &key).await?;
        let about = application.to_string();
        let is_record = |live: &Object| {
            live.label(RECORD_LABEL).is_some()
                && live.annotation(&note("application")) == Some(about.as_str())
        };
        Ok(found.filter(is_record))
    }
}

fn inventory_of(map: &Object) -> &str {
    map.value()
        .get("data")
        .and_then(|data| data.get(text::INVENTORY)?.as_str())
        .unwrap_or_default()
}

/// Returns the first kinds that an inventory names.
fn kinds(inventory: &str) -> BTreeSet<Gvk> {
    let inventory = Inventory::parse(inventory).unwrap_or_default();
    let kinds = inventory.entries.into_iter().map(|(key, entry)| Gvk {
        group: key.group.clone(),
        version: entry.version,
        kind: key.kind.clone(),
    });
    let kinds: BTreeSet<Gvk> = kinds.collect();
    kinds.into_iter().take(KINDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_record_names_a_bounded_number_of_kinds() {
        let name: Name = "shop/web".parse().unwrap();
        assert_eq!(head_name(&name), "tagboat-web");
        let mut text = "{\"repository\":\"evil\",\"delete\":true}\n".to_owned();
        for index in 0..1000 {
            text += &format!(
                "{{\"version\":\"v1\",\"kind\":\"Kind{}\",\"name\":\"a\"}}\n",
                index % 500
            );
        }
        assert_eq!(kinds(&text).len(), KINDS);
        assert_eq!(kinds("damaged").len(), 0);
    }
}
