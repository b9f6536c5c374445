//! The last listing of each image repository: its tags on disk, and in memory its version, so that
//! an unchanged list is neither read nor written.

use super::{
    Store, StoreError,
    error::{RedbError, any},
    tables::META,
};
use crate::{
    core::image::{ImageRepository, TagList},
    io::registry::Validator,
};
use jiff::{SignedDuration, Timestamp};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

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

/// Times of listings that found nothing new are written together, so often at most: losing them
/// costs a listing each.
const TOUCH_LAG: Duration = Duration::from_secs(60);

/// Listings known in memory, some 300 bytes each; with more, all are forgotten and read again.
const MOST_KNOWN: usize = 50_000;

/// The last version that was given to a list, in this process.
static LAST_VERSION: AtomicU64 = AtomicU64::new(0);

/// The version of a repository's tag list.
///
/// Within a process, no two different contents of a list have the same version. A list that becomes
/// what it was before gets a new one, because the times at which tags appeared differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListVersion(u64);

/// The version of what is known of the tags of a repository: digests, dates, platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FactsVersion(u64);

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
    pub version: ListVersion,
    pub state: TagsState,
}

/// A listing as memory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptListing {
    pub version: ListVersion,
    /// The number of tags.
    pub count: usize,
    pub state: TagsState,
    content: [u8; 32],
}

impl KeptListing {
    /// Returns whether these are its tags, in the same order.
    pub fn has(&self, tags: &TagList) -> bool {
        self.count == tags.len() && self.content == content_of(tags.as_lines())
    }
}

/// The listings and versions in memory.
#[derive(Debug)]
pub(super) struct Listings {
    known: HashMap<ImageRepository, KeptListing>,
    /// Repositories whose time of listing is newer in memory than on disk.
    touched: HashSet<ImageRepository>,
    written: Instant,
    facts: HashMap<ImageRepository, FactsVersion>,
}

impl Default for Listings {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            touched: HashSet::new(),
            written: Instant::now(),
            facts: HashMap::new(),
        }
    }
}

impl Listings {
    /// Learns a listing, unless a newer one is known.
    fn learn(&mut self, repository: &ImageRepository, listing: KeptListing) {
        match self.known.get_mut(repository) {
            Some(known) if known.version.0 > listing.version.0 => {}
            Some(known) if known.version == listing.version => {
                let fetched = known.state.fetched.max(listing.state.fetched);
                *known = listing;
                known.state.fetched = fetched;
            }
            Some(known) => *known = listing,
            None => {
                self.known.insert(repository.clone(), listing);
            }
        }
    }
}

pub(super) fn create(transaction: &WriteTransaction) -> Result<(), RedbError> {
    transaction.open_table(TAGS).map_err(any)?;
    transaction.open_table(LISTED).map_err(any)?;
    transaction.open_table(APPEARED).map_err(any)?;
    Ok(())
}

impl Store {
    fn listings(&self) -> MutexGuard<'_, Listings> {
        let listings: &Mutex<Listings> = &self.listings;
        listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the last listing of a repository from memory, without I/O.
    pub fn known_listing(&self, repository: &ImageRepository) -> Option<KeptListing> {
        self.listings().known.get(repository).cloned()
    }

    /// Returns the last listing of a repository, without its tags.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn listing(&self, repository: &ImageRepository) -> Result<Option<KeptListing>, StoreError> {
        if let Some(known) = self.known_listing(repository) {
            return Ok(Some(known));
        }
        let read = self.read_row(repository, |lines, version, state| KeptListing {
            version,
            count: lines.lines().count(),
            content: content_of(lines),
            state,
        })?;
        let Some(listing) = read else {
            return Ok(None);
        };
        if self.listings().known.len() >= MOST_KNOWN {
            self.write_touched()?;
            self.listings().known.clear();
        }
        let mut listings = self.listings();
        listings.learn(repository, listing);
        Ok(listings.known.get(repository).cloned())
    }

    /// Returns the time and the validator of the last listing of a repository.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn tags_state(
        &self,
        repository: &ImageRepository,
    ) -> Result<Option<TagsState>, StoreError> {
        Ok(self.listing(repository)?.map(|listing| listing.state))
    }

    /// The tags of `repository` as last listed.
    pub fn tags(&self, repository: &ImageRepository) -> Result<Option<KeptTags>, StoreError> {
        self.lists_read.fetch_add(1, Ordering::Relaxed);
        let kept = self.read_row(repository, |lines, version, state| KeptTags {
            tags: TagList::from_lines(lines),
            version,
            state,
        })?;
        Ok(kept.map(|mut kept| {
            let known = self.known_listing(repository);
            if let Some(known) = known.filter(|known| known.version == kept.version) {
                kept.state = known.state;
            }
            kept
        }))
    }

    /// Returns the error of a listing that the file has lost.
    pub(crate) fn lost(&self, repository: &ImageRepository) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            why: format!("the tags of {repository} are gone"),
        }
    }

    /// Counts the tag lists that were read from the file.
    pub fn lists_read(&self) -> u64 {
        self.lists_read.load(Ordering::Relaxed)
    }

    /// Reads the rows of a listing, all of one commit.
    fn read_row<T>(
        &self,
        repository: &ImageRepository,
        row: impl Fn(&str, ListVersion, TagsState) -> T,
    ) -> Result<Option<T>, StoreError> {
        let key = version_key(repository);
        self.read(|transaction| {
            let listed = transaction.open_table(LISTED).map_err(any)?;
            let tags = transaction.open_table(TAGS).map_err(any)?;
            let meta = transaction.open_table(META).map_err(any)?;
            let version = meta.get(key.as_str()).map_err(any)?;
            let version = ListVersion(version.map_or(0, |version| version.value()));
            let (listed, lines) = (
                listed.get(repository.as_str()).map_err(any)?,
                tags.get(repository.as_str()).map_err(any)?,
            );
            Ok(listed
                .zip(lines)
                .map(|(listed, lines)| row(lines.value(), version, state(listed.value()))))
        })
    }

    /// Keeps a listing; returns whether its tags differ from those kept before.
    pub fn put_tags(
        &self,
        repository: &ImageRepository,
        tags: &TagList,
        validator: Option<&Validator>,
        fetched: Timestamp,
    ) -> Result<bool, StoreError> {
        let kept = self.put_listing(repository, tags, validator, fetched);
        kept.map(|(_, is_new)| is_new)
    }

    /// Keeps a listing; returns its version, and whether its tags differ from those kept before.
    /// Equal tags are not written again.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn put_listing(
        &self,
        repository: &ImageRepository,
        tags: &TagList,
        validator: Option<&Validator>,
        fetched: Timestamp,
    ) -> Result<(ListVersion, bool), StoreError> {
        let is_kept = self.listing(repository)?.is_some_and(|kept| kept.has(tags));
        let key = version_key(repository);
        let (version, is_new) = self.write(!is_kept, |transaction| {
            let mut table = transaction.open_table(TAGS).map_err(any)?;
            let old = table.get(repository.as_str()).map_err(any)?;
            let old = old.map(|old| old.value().to_owned());
            let mut meta = transaction.open_table(META).map_err(any)?;
            let last = meta.get(key.as_str()).map_err(any)?;
            let last = last.map_or(0, |last| last.value());
            // Another pass may have written since memory was asked.
            let is_new = old.as_deref() != Some(tags.as_lines());
            let version = if is_new { next_version(last) } else { last };
            if is_new {
                table
                    .insert(repository.as_str(), tags.as_lines())
                    .map_err(any)?;
                meta.insert(key.as_str(), version).map_err(any)?;
            }
            if let Some(old) = old.filter(|_| is_new) {
                note_appeared(transaction, repository, &old, tags, fetched)?;
            }
            let row = (
                fetched.as_millisecond(),
                validator.map_or("", |validator| &validator.0),
            );
            transaction
                .open_table(LISTED)
                .map_err(any)?
                .insert(repository.as_str(), row)
                .map_err(any)?;
            Ok((ListVersion(version), is_new))
        })?;
        let listing = KeptListing {
            version,
            count: tags.len(),
            content: content_of(tags.as_lines()),
            state: state((
                fetched.as_millisecond(),
                validator.map_or("", |validator| &validator.0),
            )),
        };
        self.listings().learn(repository, listing);
        Ok((version, is_new))
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

    /// Notes that the kept list is still the registry's. Written later, with others: losing it
    /// costs one listing.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn touch_tags(
        &self,
        repository: &ImageRepository,
        fetched: Timestamp,
    ) -> Result<(), StoreError> {
        if self.listing(repository)?.is_some() && self.touch_known(repository, fetched) {
            self.write_touched()?;
        }
        Ok(())
    }

    /// Notes in memory that a known list is still the registry's. Returns whether such times are
    /// due to be written ([`Store::write_touched`]).
    pub fn touch_known(&self, repository: &ImageRepository, fetched: Timestamp) -> bool {
        let mut listings = self.listings();
        if let Some(known) = listings.known.get_mut(repository) {
            // As the file has it.
            known.state.fetched =
                Timestamp::from_millisecond(fetched.as_millisecond()).unwrap_or(fetched);
            listings.touched.insert(repository.clone());
        }
        listings.written.elapsed() >= TOUCH_LAG
    }

    /// Writes the times of listings that found nothing new, in one commit.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_touched(&self) -> Result<(), StoreError> {
        let rows: Vec<(ImageRepository, i64)> = {
            let mut listings = self.listings();
            listings.written = Instant::now();
            let touched = std::mem::take(&mut listings.touched);
            let time = |repository: ImageRepository| {
                let known = listings.known.get(&repository)?;
                let time = known.state.fetched.as_millisecond();
                Some((repository, time))
            };
            touched.into_iter().filter_map(time).collect()
        };
        if rows.is_empty() {
            return Ok(());
        }
        self.write(false, |transaction| {
            let mut table = transaction.open_table(LISTED).map_err(any)?;
            for (repository, time) in &rows {
                // The validator belongs to the tags of the same commit, which may be newer.
                let row = table.get(repository.as_str()).map_err(any)?;
                let row = row.map(|row| (row.value().0, row.value().1.to_owned()));
                if let Some((_, validator)) = row.filter(|(written, _)| written < time) {
                    table
                        .insert(repository.as_str(), (*time, validator.as_str()))
                        .map_err(any)?;
                }
            }
            Ok(())
        })
    }

    /// Returns the version of the facts about the tags of a repository.
    pub fn facts_version(&self, repository: &ImageRepository) -> FactsVersion {
        let mut listings = self.listings();
        if let Some(version) = listings.facts.get(repository) {
            return *version;
        }
        if listings.facts.len() >= MOST_KNOWN {
            listings.facts.clear();
        }
        let version = FactsVersion(next_version(0));
        listings.facts.insert(repository.clone(), version);
        version
    }

    /// Gives the facts about the tags of a repository another version.
    pub(super) fn raise_facts_version(&self, repository: &ImageRepository) {
        let version = FactsVersion(next_version(0));
        if let Some(known) = self.listings().facts.get_mut(repository) {
            *known = version;
        }
    }
}

/// Returns a version that no list has had in this process, above the last one in the file.
fn next_version(last: u64) -> u64 {
    LAST_VERSION.fetch_max(last, Ordering::Relaxed);
    LAST_VERSION.fetch_add(1, Ordering::Relaxed) + 1
}

/// The key of a list's version among the numbers of the store.
fn version_key(repository: &ImageRepository) -> String {
    format!("tags {repository}")
}

fn content_of(lines: &str) -> [u8; 32] {
    Sha256::digest(lines).into()
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
