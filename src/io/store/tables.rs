//! The tables and their accessors.

use super::{
    Store, StoreError,
    error::{RedbError, any},
};
use crate::{
    core::image::{Digest, ImageRepository, Tag, TagList},
    io::registry::{ImageDescription, Validator},
};
use jiff::{SignedDuration, Timestamp};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::collections::HashSet;

pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Repository → its tags, a line each.
const TAGS: TableDefinition<&str, &str> = TableDefinition::new("tags");
/// Repository → time of the last listing (milliseconds) and its validator (empty: none); apart from
/// `TAGS`, so that an unchanged list is not written again.
const LISTED: TableDefinition<&str, (i64, &str)> = TableDefinition::new("listed");
/// Repository and tag → when the tag appeared in the list (milliseconds). Without a row it was
/// there in the first listing, or it appeared too long ago to matter.
const APPEARED: TableDefinition<(&str, &str), i64> = TableDefinition::new("appeared");
/// The retention of the times at which tags appeared: as long as reverts count.
const APPEARED_KEPT: SignedDuration = SignedDuration::from_hours(180 * 24);
/// Repository and digest → [`ImageDescription`] as JSON.
const FACTS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("facts");
/// Repository and tag → digest, and since when the tag has had it (milliseconds).
const SEEN: TableDefinition<(&str, &str), (&str, i64)> = TableDefinition::new("seen");
/// Table and key of another module → its bytes.
const AREA: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("area");
/// The row of the key that signs markers.
const MARKER_KEY: (&str, &str) = ("keys", "marker");

pub(crate) fn create_all(transaction: &WriteTransaction, version: u64) -> Result<(), RedbError> {
    transaction.open_table(TAGS).map_err(any)?;
    transaction.open_table(LISTED).map_err(any)?;
    transaction.open_table(APPEARED).map_err(any)?;
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

/// The last listing of a repository, without its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagsState {
    /// The time of the last listing that was whole, a "not modified" included.
    pub fetched: Timestamp,
    /// The validator for the next conditional request.
    pub validator: Option<Validator>,
}

/// The tags of a repository as they were last listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptTags {
    pub tags: TagList,
    pub state: TagsState,
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

impl Store {
    /// Returns the last listing of `repository`.
    pub fn tags_state(
        &self,
        repository: &ImageRepository,
    ) -> Result<Option<TagsState>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(LISTED).map_err(any)?;
            let row = table.get(repository.as_str()).map_err(any)?;
            Ok(row.map(|row| state(row.value())))
        })
    }

    /// The tags of `repository` as last listed.
    pub fn tags(&self, repository: &ImageRepository) -> Result<Option<KeptTags>, StoreError> {
        self.read(|transaction| {
            let listed = transaction.open_table(LISTED).map_err(any)?;
            let tags = transaction.open_table(TAGS).map_err(any)?;
            let (listed, lines) = (
                listed.get(repository.as_str()).map_err(any)?,
                tags.get(repository.as_str()).map_err(any)?,
            );
            Ok(listed.zip(lines).map(|(listed, lines)| KeptTags {
                tags: TagList::from_lines(lines.value()),
                state: state(listed.value()),
            }))
        })
    }

    /// Keeps a listing; whether its tags differ from those kept before. Equal tags are not written
    /// again.
    pub fn put_tags(
        &self,
        repository: &ImageRepository,
        tags: &TagList,
        validator: Option<&Validator>,
        fetched: Timestamp,
    ) -> Result<bool, StoreError> {
        let same = self.read(|transaction| {
            let table = transaction.open_table(TAGS).map_err(any)?;
            let lines = table.get(repository.as_str()).map_err(any)?;
            Ok(lines.is_some_and(|lines| lines.value() == tags.as_lines()))
        })?;
        let validator = validator.map_or("", |validator| &validator.0);
        self.write(!same, |transaction| {
            if !same {
                let mut table = transaction.open_table(TAGS).map_err(any)?;
                let old = table
                    .insert(repository.as_str(), tags.as_lines())
                    .map_err(any)?;
                if let Some(old) = old {
                    note_appeared(transaction, repository, old.value(), tags, fetched)?;
                }
            }
            let row = (fetched.as_millisecond(), validator);
            transaction
                .open_table(LISTED)
                .map_err(any)?
                .insert(repository.as_str(), row)
                .map_err(any)?;
            Ok(())
        })?;
        Ok(!same)
    }

    /// Returns the tags of `repository` that appeared in its list after the first listing, with the
    /// time of the listing they appeared in. Those of half a year at most.
    pub fn listed_since(
        &self,
        repository: &ImageRepository,
    ) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(APPEARED).map_err(any)?;
            let mut rows = Vec::new();
            for row in table.range((repository.as_str(), "")..).map_err(any)? {
                let (key, time) = row.map_err(any)?;
                let (of, tag) = key.value();
                if of != repository.as_str() {
                    break;
                }
                rows.extend(
                    Timestamp::from_millisecond(time.value())
                        .ok()
                        .map(|time| (tag.to_owned(), time)),
                );
            }
            Ok(rows)
        })
    }

    /// Notes that the kept list is still the registry's. Left to a later commit: losing it costs
    /// one listing.
    pub fn touch_tags(
        &self,
        repository: &ImageRepository,
        fetched: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(state) = self.tags_state(repository)? else {
            return Ok(());
        };
        let validator = state
            .validator
            .as_ref()
            .map_or("", |validator| &validator.0);
        self.write(false, |transaction| {
            let row = (fetched.as_millisecond(), validator);
            transaction
                .open_table(LISTED)
                .map_err(any)?
                .insert(repository.as_str(), row)
                .map_err(any)?;
            Ok(())
        })
    }

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

/// Notes the tags that are in the new list and not in the old one; forgets those that left the list
/// or appeared long ago, so that the rows are bounded by the list.
fn note_appeared(
    transaction: &WriteTransaction,
    repository: &ImageRepository,
    old: &str,
    new: &TagList,
    now: Timestamp,
) -> Result<(), RedbError> {
    let old: HashSet<&str> = old.lines().collect();
    let listed: HashSet<&str> = new.iter().collect();
    let forgotten = now
        .checked_sub(APPEARED_KEPT)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .as_millisecond();
    let mut table = transaction.open_table(APPEARED).map_err(any)?;
    let mut stale = Vec::new();
    for row in table.range((repository.as_str(), "")..).map_err(any)? {
        let (key, time) = row.map_err(any)?;
        let (of, tag) = key.value();
        if of != repository.as_str() {
            break;
        }
        if time.value() < forgotten || !listed.contains(tag) {
            stale.push(tag.to_owned());
        }
    }
    for tag in stale {
        table
            .remove((repository.as_str(), tag.as_str()))
            .map_err(any)?;
    }
    for tag in new.iter().filter(|tag| !old.contains(tag)) {
        table
            .insert((repository.as_str(), tag), now.as_millisecond())
            .map_err(any)?;
    }
    Ok(())
}

fn state((fetched, validator): (i64, &str)) -> TagsState {
    TagsState {
        fetched: Timestamp::from_millisecond(fetched).unwrap_or(Timestamp::UNIX_EPOCH),
        validator: (!validator.is_empty()).then(|| Validator(validator.to_owned())),
    }
}

fn seen((digest, since): (&str, i64)) -> Option<FirstSeen> {
    Some(FirstSeen {
        digest: Digest::new(digest).ok()?,
        since: Timestamp::from_millisecond(since).ok()?,
    })
}
