//! Renderings of programs on disk: they outlive the memory of a process, and its restarts.
//!
//! A file is named by the key of the inputs, and begins with the hash of its content. One that is
//! damaged, or of another tagboat, is deleted and rendered again. What was not used for longest
//! goes first.

use super::{
    FolderKind, InputsKey, RenderError, RenderInputs, RenderMethod, Rendered, Renderer,
    cache::KnownInputs,
};
use crate::{
    core::text::hex,
    events::{Event, EventReason, Recorder},
    io::private,
    objects::object::{CompactObject, ObjectKey, ObjectOrigin},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// The most bytes of all files together.
const KEPT: u64 = 512 << 20;

/// The most files.
const FILES: usize = 50_000;

/// The most bytes of one file. Several are read at once, beside the limits of programs; a larger
/// rendering is rare, and made again.
const LARGEST: u64 = 8 << 20;

/// The tagboat that reads and checks what programs print. Raise the number with a change of that.
const TAGBOAT: &str = concat!(env!("CARGO_PKG_VERSION"), " 1");

/// The first bytes of a file; another format has other ones.
const MAGIC: &[u8; 8] = b"tagboat1";

/// A folder of renderings.
#[derive(Debug)]
pub(super) struct KeptRenderings {
    folder: PathBuf,
    files: OnceLock<Mutex<KeptFiles>>,
}

/// The files of the folder, as far as this process knows.
#[derive(Debug, Default)]
struct KeptFiles {
    by_key: HashMap<InputsKey, KeptFile>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct KeptFile {
    bytes: u64,
    used: SystemTime,
}

/// The content of a file. Another tagboat may make another one of the same inputs, and another
/// program may look like the former.
#[derive(Serialize, Deserialize)]
struct Content {
    tagboat: String,
    how: RenderMethod,
    warnings: Vec<String>,
    left_out: Vec<(String, usize, KeptKey)>,
    hash: String,
    paths: Vec<String>,
    /// File, line and JSON of each object.
    objects: Vec<(Option<(String, usize)>, String)>,
}

/// Group, kind, namespace and name.
type KeptKey = (String, String, Option<String>, String);

impl Renderer {
    /// Keeps what programs render in a folder, too, which is made if it is missing.
    #[must_use]
    pub fn keeping(self, folder: &Path, events: &Recorder) -> Self {
        Self {
            kept: Some(KeptRenderings::new(folder.to_owned())),
            events: events.clone(),
            ..self
        }
    }

    /// Returns a rendering that an earlier process has kept on disk.
    pub(super) fn kept(
        &self,
        options: InputsKey,
        way: FolderKind,
        paths: &Arc<[String]>,
        key: InputsKey,
    ) -> Option<Result<Arc<Rendered>, RenderError>> {
        let result = Ok(self.kept.as_ref()?.get(key)?);
        let paths = Arc::clone(paths);
        self.lock()
            .put(options, KnownInputs { paths, way, key }, &result);
        Some(result)
    }

    /// Keeps a rendering on disk. A full disk only makes the next start slower; it is reported
    /// once.
    pub(super) fn keep(&self, rendered: &Rendered) {
        let Some(kept) = &self.kept else { return };
        let result = kept.put(rendered);
        let has_failed = self.keeping_fails.swap(result.is_err(), Ordering::Relaxed);
        if let Err(error) = result
            && !has_failed
        {
            let text = format!("cannot keep renderings: {error}; the next start renders again");
            let event = Event::warning(EventReason::CacheUnavailable, text);
            self.events.record(event);
        }
    }
}

impl Content {
    fn new(rendered: &Rendered, inputs: &RenderInputs) -> Self {
        let place = |origin: &ObjectOrigin| (origin.file.to_string(), origin.line);
        let left_out = rendered.left_out.iter().map(|(origin, key)| {
            let (file, line) = place(origin);
            let key = (
                key.group.clone(),
                key.kind.clone(),
                key.namespace.clone(),
                key.name.clone(),
            );
            (file, line, key)
        });
        let objects = rendered.manifests.iter().map(|manifest| {
            let origin = manifest.origin.as_ref().map(place);
            (origin, manifest.json().to_owned())
        });
        Self {
            tagboat: TAGBOAT.to_owned(),
            how: rendered.how.clone(),
            warnings: rendered.warnings.clone(),
            left_out: left_out.collect(),
            hash: rendered.hash.clone(),
            paths: inputs.paths.to_vec(),
            objects: objects.collect(),
        }
    }

    /// Returns the rendering, unless an object is none.
    fn into_rendered(self, key: InputsKey) -> Option<Rendered> {
        if self.tagboat != TAGBOAT {
            return None;
        }
        // Most objects of a rendering come from one file.
        let mut files: HashMap<String, Arc<str>> = HashMap::new();
        let mut origin = |(file, line): (String, usize)| ObjectOrigin {
            file: match files.get(&file) {
                Some(known) => Arc::clone(known),
                None => {
                    let shared: Arc<str> = file.as_str().into();
                    files.insert(file, Arc::clone(&shared));
                    shared
                }
            },
            line,
        };
        let left_out = self.left_out.into_iter().map(|(file, line, key)| {
            let (group, kind, namespace, name) = key;
            let key = ObjectKey::new(group, kind, namespace, name);
            (origin((file, line)), key)
        });
        let left_out = left_out.collect();
        let manifests = self.objects.into_iter().map(|(place, json)| {
            let place = place.map(&mut origin);
            CompactObject::from_json(json, place).ok()
        });
        Some(Rendered {
            manifests: manifests.collect::<Option<_>>()?,
            how: self.how,
            warnings: self.warnings,
            left_out,
            hash: self.hash,
            inputs: Some(RenderInputs {
                key,
                paths: self.paths.into(),
            }),
        })
    }
}

impl KeptRenderings {
    /// Keeps renderings in a folder, which is made when the first one is written.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            files: OnceLock::new(),
        }
    }

    /// Reads the rendering of some inputs.
    pub(super) fn get(&self, key: InputsKey) -> Option<Arc<Rendered>> {
        let path = self.path(key);
        let content = read(&path).ok()?;
        let content = content.and_then(|content| content.into_rendered(key));
        let Some(rendered) = content else {
            // Damaged, or of another version.
            let _ = fs::remove_file(&path);
            self.files().forget(key);
            return None;
        };
        let now = SystemTime::now();
        // A file whose time cannot be set goes earlier.
        let _ = File::open(&path).and_then(|file| file.set_modified(now));
        self.files().touch(key, now);
        Some(Arc::new(rendered))
    }

    /// Writes a rendering, if its inputs are known and no file has it.
    ///
    /// # Errors
    /// If the file cannot be written: the next process renders again.
    pub(super) fn put(&self, rendered: &Rendered) -> io::Result<()> {
        let Some(inputs) = &rendered.inputs else {
            return Ok(());
        };
        let path = self.path(inputs.key);
        if path.exists() {
            return Ok(());
        }
        let content = serde_json::to_vec(&Content::new(rendered, inputs))?;
        if content.len() as u64 > LARGEST {
            return Ok(());
        }
        private::create_folder(&self.folder)?;
        // Two threads may write the same rendering.
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_extension(format!("{}.{number}.new", std::process::id()));
        let written = write(&beside, &content).and_then(|()| fs::rename(&beside, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        let bytes = content.len() as u64;
        for key in self.files().add(inputs.key, bytes, SystemTime::now()) {
            let _ = fs::remove_file(self.path(key));
        }
        Ok(())
    }

    fn path(&self, key: InputsKey) -> PathBuf {
        self.folder.join(hex(&key))
    }

    /// Locks the list of files, which is read from the folder at first.
    fn files(&self) -> MutexGuard<'_, KeptFiles> {
        let files = self
            .files
            .get_or_init(|| Mutex::new(KeptFiles::list(&self.folder)));
        files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptFiles {
    /// Lists a folder. What a process that died has begun is deleted.
    fn list(folder: &Path) -> Self {
        let mut files = Self::default();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let key = name.to_str().and_then(parse_key);
            match (key, entry.metadata()) {
                (Some(key), Ok(data)) if data.is_file() => {
                    let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    files.insert(key, data.len(), used);
                }
                (None, Ok(data)) if data.is_file() => {
                    let _ = fs::remove_file(entry.path());
                }
                _ => {}
            }
        }
        files
    }

    fn insert(&mut self, key: InputsKey, bytes: u64, used: SystemTime) {
        let file = KeptFile { bytes, used };
        let before = self.by_key.insert(key, file);
        self.bytes = self.bytes + bytes - before.map_or(0, |before| before.bytes);
    }

    fn touch(&mut self, key: InputsKey, now: SystemTime) {
        if let Some(file) = self.by_key.get_mut(&key) {
            file.used = now;
        }
    }

    fn forget(&mut self, key: InputsKey) {
        if let Some(file) = self.by_key.remove(&key) {
            self.bytes -= file.bytes;
        }
    }

    /// Adds a file; returns those that must go for it, a tenth at a time.
    fn add(&mut self, key: InputsKey, bytes: u64, now: SystemTime) -> Vec<InputsKey> {
        self.insert(key, bytes, now);
        if self.bytes <= KEPT && self.by_key.len() <= FILES {
            return Vec::new();
        }
        let mut oldest: Vec<(SystemTime, InputsKey)> = self
            .by_key
            .iter()
            .map(|(key, file)| (file.used, *key))
            .collect();
        oldest.sort_unstable();
        let mut gone = Vec::new();
        for (_, other) in oldest {
            if self.bytes <= KEPT / 10 * 9 && self.by_key.len() <= FILES / 10 * 9 {
                break;
            }
            if other != key {
                self.forget(other);
                gone.push(other);
            }
        }
        gone
    }
}

fn parse_key(name: &str) -> Option<InputsKey> {
    let mut key = InputsKey::default();
    let is_hex = name.len() == 2 * key.len() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(name.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(key)
}

/// Writes a file that only its owner may read.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = private::open_file(path)?;
    file.set_len(0)?;
    file.write_all(MAGIC)?;
    file.write_all(&Sha256::digest(content))?;
    file.write_all(content)
}

/// Reads a file; nothing if it is damaged.
fn read(path: &Path) -> io::Result<Option<Content>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LARGEST + 1024)
        .read_to_end(&mut bytes)?;
    let content = bytes.strip_prefix(MAGIC).and_then(|rest| {
        let (hash, content) = rest.split_at_checked(32)?;
        (hash == &*Sha256::digest(content)).then_some(content)
    });
    Ok(content.and_then(|content| serde_json::from_slice(content).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rendered(key: u8) -> Rendered {
        let object = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}"#.to_owned();
        let origin = ObjectOrigin {
            file: "apps/a".into(),
            line: 0,
        };
        Rendered {
            manifests: vec![CompactObject::from_json(object, Some(origin.clone())).unwrap()],
            how: RenderMethod::Helm {
                version: "v4.2.4".to_owned(),
            },
            warnings: vec!["a hook is left out".to_owned()],
            left_out: vec![(origin, ObjectKey::new("", "Secret", None, "b"))],
            hash: "ab".to_owned(),
            inputs: Some(RenderInputs {
                key: [key; 32],
                paths: ["apps/a".to_owned()].into(),
            }),
        }
    }

    #[test]
    fn kept_rendering_is_read_back_by_another_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("renderings");
        let rendered = rendered(1);
        KeptRenderings::new(path.clone()).put(&rendered).unwrap();
        let again = KeptRenderings::new(path.clone()).get([1; 32]).unwrap();
        assert_eq!(format!("{again:?}"), format!("{:?}", Arc::new(rendered)));
        assert!(KeptRenderings::new(path).get([2; 32]).is_none());
    }

    #[test]
    fn kept_rendering_damaged_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptRenderings::new(folder.path().to_owned());
        kept.put(&rendered(1)).unwrap();
        let path = kept.path([1; 32]);
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 3;
        for damaged in [
            Vec::new(),
            bytes[..last].to_vec(),
            b"tagboat9 and more".to_vec(),
            {
                bytes[last] ^= 1;
                bytes.clone()
            },
        ] {
            fs::write(&path, damaged).unwrap();
            assert!(kept.get([1; 32]).is_none());
            assert!(!path.exists());
            kept.put(&rendered(1)).unwrap();
            assert!(kept.get([1; 32]).is_some());
        }
    }

    #[test]
    fn kept_folder_loses_what_a_dead_process_began() {
        let folder = tempfile::tempdir().unwrap();
        let begun = folder.path().join(format!("{}.1.new", hex(&[1; 32])));
        fs::write(&begun, "half").unwrap();
        KeptRenderings::new(folder.path().to_owned())
            .put(&rendered(2))
            .unwrap();
        assert!(!begun.exists());
    }

    #[test]
    fn kept_files_go_by_their_last_use() {
        let mut files = KeptFiles::default();
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let quarter = KEPT / 4;
        for (key, second) in [(1, 10), (2, 11), (3, 12)] {
            assert!(files.add([key; 32], quarter, at(second)).is_empty());
        }
        files.touch([1; 32], at(20));
        assert_eq!(files.add([4; 32], quarter + 1, at(21)), [[2; 32]]);
        assert_eq!(files.bytes, 3 * quarter + 1);
        // The newest stays, whatever its size.
        assert_eq!(files.add([5; 32], KEPT, at(22)).len(), 3);
        assert_eq!((files.by_key.len(), files.bytes), (1, KEPT));
    }
}
