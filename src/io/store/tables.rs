//! The tables and their accessors.

use super::{
    Store, StoreError,
    error::{RedbError, any},
};
use crate::{
    core::image::{Digest, ImageRepository, Tag, TagList},
    io::registry::ImageDescription,
};
use jiff::Timestamp;
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use ring::rand::{SecureRandom as _, SystemRandom};

pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Repository and digest → [`ImageDescription`] as JSON.
const FACTS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("facts");
/// Repository and tag → digest, and since when the tag has had it (milliseconds).
const SEEN: TableDefinition<(&str, &str), (&str, i64)> = TableDefinition::new("seen");
/// Table and key of another module → its bytes.
const AREA: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("area");
/// The row of the key that signs markers.
const MARKER_KEY: (&str, &str) = ("keys", "marker");

pub(crate) fn create_all(transaction: &WriteTransaction, version: u64) -> Result<(), RedbError> {
    transaction.open_table(FACTS).map_err(any)?;
    transaction.open_table(SEEN).map_err(any)?;
    transaction.open_table(AREA).map_err(any)?;
    transaction
        .open_table(META)
        .map_err(any)?
        .insert("version", version)
        .map_err(any)?;
    Ok(())
}

/// A tag's digest and since when the tag has had it, as far as we saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstSeen {
    /// The digest last seen.
    pub digest: Digest,
    /// The time at which the tag was first seen with this digest. A different digest in between
    /// restarts the clock.
    pub since: Timestamp,
}

/// A tag with its last digest and the description of that.
pub type KnownFacts = (String, FirstSeen, Option<ImageDescription>);

impl Store {
    pub fn description(
        &self,
        repository: &ImageRepository,
        digest: &Digest,
    ) -> Result<Option<ImageDescription>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(FACTS).map_err(any)?;
            let row = table
                .get((repository.as_str(), digest.as_str()))
                .map_err(any)?;
            // A row that is not readable is as good as none: it is fetched again.
            Ok(row.and_then(|row| serde_json::from_slice(row.value()).ok()))
        })
    }

    /// Stores the description of a digest, for ever.
    pub fn put_description(
        &self,
        repository: &ImageRepository,
        digest: &Digest,
        description: &ImageDescription,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_vec(description)
            .expect("a description has only text, dates and maps by text");
        self.write(false, |transaction| {
            let mut table = transaction.open_table(FACTS).map_err(any)?;
            table
                .insert((repository.as_str(), digest.as_str()), json.as_slice())
                .map_err(any)?;
            Ok(())
        })?;
        self.raise_facts_version(repository);
        Ok(())
    }

    /// Returns what is known of tags, of those that were ever seen: the last digest, and its
    /// description. All of one commit.
    pub fn known_facts(
        &self,
        repository: &ImageRepository,
        tags: &TagList,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<KnownFacts>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(SEEN).map_err(any)?;
            let facts = transaction.open_table(FACTS).map_err(any)?;
            let mut known = Vec::new();
            for tag in tags.iter().filter(|tag| is_wanted(tag)) {
                let row = table.get((repository.as_str(), tag)).map_err(any)?;
                let Some(first) = row.and_then(|row| seen(row.value())) else {
                    continue;
                };
                let row = facts
                    .get((repository.as_str(), first.digest.as_str()))
                    .map_err(any)?;
                // A row that is not readable is as good as none: it is fetched again.
                let description = row.and_then(|row| serde_json::from_slice(row.value()).ok());
                known.push((tag.to_owned(), first, description));
            }
            Ok(known)
        })
    }

    /// The digest last seen at a tag.
    pub fn seen(
        &self,
        repository: &ImageRepository,
        tag: &Tag,
    ) -> Result<Option<FirstSeen>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(SEEN).map_err(any)?;
            let row = table
                .get((repository.as_str(), tag.as_str()))
                .map_err(any)?;
            Ok(row.and_then(|row| seen(row.value())))
        })
    }

    /// Notes that tags have these digests at `now`, and gives each one's clock, in order. Nothing
    /// is written when all are as before.
    pub fn see(
        &self,
        repository: &ImageRepository,
        tags: &[(Tag, Digest)],
        now: Timestamp,
    ) -> Result<Vec<FirstSeen>, StoreError> {
        let mut clocks = Vec::with_capacity(tags.len());
        for (tag, digest) in tags {
            let kept = self
                .seen(repository, tag)?
                .filter(|seen| seen.digest == *digest);
            clocks.push(kept);
        }
        if clocks.iter().any(Option::is_none) {
            self.write(true, |transaction| {
                let mut table = transaction.open_table(SEEN).map_err(any)?;
                for ((tag, digest), _) in tags
                    .iter()
                    .zip(&clocks)
                    .filter(|(_, clock)| clock.is_none())
                {
                    table
                        .insert(
                            (repository.as_str(), tag.as_str()),
                            (digest.as_str(), now.as_millisecond()),
                        )
                        .map_err(any)?;
                }
                Ok(())
            })?;
            self.raise_facts_version(repository);
        }
        let fresh = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        let clock = |(clock, (_, digest)): (Option<FirstSeen>, &(Tag, Digest))| {
            clock.unwrap_or(FirstSeen {
                digest: digest.clone(),
                since: fresh,
            })
        };
        Ok(clocks.into_iter().zip(tags).map(clock).collect())
    }

    /// Returns the bytes that another module stored under `table` and `key`.
    pub fn get(&self, table: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|transaction| {
            let area = transaction.open_table(AREA).map_err(any)?;
            let row = area.get((table, key)).map_err(any)?;
            Ok(row.map(|row| row.value().to_vec()))
        })
    }

    /// Stores bytes of another module, synced to disk on return.
    pub fn put(&self, table: &str, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(true, |transaction| {
            transaction
                .open_table(AREA)
                .map_err(any)?
                .insert((table, key), bytes)
                .map_err(any)?;
            Ok(())
        })
    }

    /// Returns the key that signs the markers of pull requests, made of random bytes at first use.
    ///
    /// # Errors
    /// If the store or the system's random numbers cannot be used.
    pub fn marker_key(&self) -> Result<[u8; 32], StoreError> {
        let known = self.get(MARKER_KEY.0, MARKER_KEY.1)?;
        if let Some(known) = known.and_then(|bytes| bytes.try_into().ok()) {
            return Ok(known);
        }
        let mut new = [0; 32];
        SystemRandom::new()
            .fill(&mut new)
            .map_err(|_| StoreError::Io {
                path: self.path.clone(),
                source: std::io::Error::other("the system gives no random numbers"),
            })?;
        self.write(true, |transaction| {
            let mut area = transaction.open_table(AREA).map_err(any)?;
            let known = area.get(MARKER_KEY).map_err(any)?;
            let known = known.and_then(|row| <[u8; 32]>::try_from(row.value()).ok());
            if known.is_none() {
                area.insert(MARKER_KEY, &new[..]).map_err(any)?;
            }
            Ok(known.unwrap_or(new))
        })
    }

    /// Deletes the bytes of another module; returns whether there were any.
    pub fn remove(&self, table: &str, key: &str) -> Result<bool, StoreError> {
        self.write(true, |transaction| {
            let mut area = transaction.open_table(AREA).map_err(any)?;
            let old = area.remove((table, key)).map_err(any)?;
            Ok(old.is_some())
        })
    }

    /// Returns the keys that another module stored under `table`, in order.
    pub fn keys(&self, table: &str) -> Result<Vec<String>, StoreError> {
        self.read(|transaction| {
            let area = transaction.open_table(AREA).map_err(any)?;
            let mut keys = Vec::new();
            for row in area.range((table, "")..).map_err(any)? {
                let (key, _) = row.map_err(any)?;
                let (of, key) = key.value();
                if of != table {
                    break;
                }
                keys.push(key.to_owned());
            }
            Ok(keys)
        })
    }
}

fn seen((digest, since): (&str, i64)) -> Option<FirstSeen> {
    Some(FirstSeen {
        digest: Digest::new(digest).ok()?,
        since: Timestamp::from_millisecond(since).ok()?,
    })
}
