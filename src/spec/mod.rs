//! Declared kinds and settings: files become checked [`ImagePolicy`], [`Environment`] and
//! [`Application`] values, with one diagnostic for each mistake.
//!
//! Belongs here: everything a user can declare, its schema and its checks. Validation is parsing:
//! the raw shapes (`raw`, `flux_raw`, `settings_raw`) define the schema, `document` knows the
//! position of every field, and a value that exists is valid. An unreadable file never hides the
//! others. Does not belong here: anything that acts on a declaration.

mod application;
mod document;
mod environment;
mod flux;
mod flux_raw;
mod forge;
mod forge_kind;
mod health;
mod diagnostic;
mod plain_http;
mod policy;
pub mod settings;
mod settings_raw;
mod raw;
mod repair;
mod render_kustomize;
mod render_sandbox;
mod required_checks;
pub mod rights;
mod schema;
mod secret_source;
mod spelling;
mod tenant_raw;
mod validator;

pub use application::{
    Application, DeletionPolicy, Drift, Helm, Ignore, NamespaceCreation, resolve,
};
pub use diagnostic::{Diagnostic, Severity, SourcePlace};
pub use environment::{
    AutoMerge, ChangeGroup, CommitAuthor, Environment, LabelSelector, MergeMethod, Paths,
    ReferenceScope, RequestOptions, WriteMode,
};
pub use flux::FluxImageRepository;
pub use forge::{ForgeCredentials, ForgeSpec};
pub use forge_kind::ForgeKind;
pub use health::HealthRule;
pub use policy::{DigestReflection, ImagePolicy, PolicyKind, SortOrder, TagFilter};
pub use required_checks::{RequireChecks, RequiredCheck};
pub use schema::{SchemaKind, schema};
pub use secret_source::SecretSource;
pub(crate) use spelling::nearest;

use crate::core::{name::Name, yaml};
use document::{SpecDocument, SpecReader};
use raw::{ApplicationSpec, Declaration, EnvironmentSpec, PolicySpec};
use rights::RepositoryRights;
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};
use validator::SpecSchema;

/// The API group and version of tagboat's own kinds.
pub const API_VERSION: &str = "tagboat.dev/v1alpha1";

/// Text that every file with a declaration contains: a prefilter before any parsing.
pub const NEEDLES: [&str; 2] = ["tagboat.dev/", "image.toolkit.fluxcd.io/"];

/// Endings of files that can contain declarations.
pub const ENDINGS: [&str; 3] = [".yaml", ".yml", ".json"];

/// The largest file read as declarations: a thousand times what people write, and far below what
/// hurts.
const MOST_BYTES: usize = 20 << 20;

static POLICY: LazyLock<SpecSchema> = LazyLock::new(SpecSchema::of::<Declaration<PolicySpec>>);
static ENVIRONMENT: LazyLock<SpecSchema> =
    LazyLock::new(SpecSchema::of::<Declaration<EnvironmentSpec>>);
static APPLICATION: LazyLock<SpecSchema> =
    LazyLock::new(SpecSchema::of::<Declaration<ApplicationSpec>>);

/// The declarations of a set of files.
#[derive(Debug, Clone, Default)]
pub struct Declarations {
    pub policies: BTreeMap<Name, ImagePolicy>,
    pub environments: BTreeMap<String, Environment>,
    pub applications: BTreeMap<Name, Application>,
    /// The ImageRepositories of Flux by name; its policies have taken what they need of them.
    pub repositories: BTreeMap<Name, FluxImageRepository>,
    /// All diagnostics in the order of files and lines.
    pub mistakes: Vec<Diagnostic>,
    /// The rights of the repository that declares all this.
    pub rights: Arc<RepositoryRights>,
}

impl Declarations {
    /// Returns whether a declaration could not be used.
    pub fn has_errors(&self) -> bool {
        self.mistakes
            .iter()
            .any(|mistake| mistake.severity == Severity::Error)
    }

    /// Puts everything that a repository declares under its rights.
    pub fn restrict(&mut self, rights: &Arc<RepositoryRights>) {
        let most = rights.limits().map_or(usize::MAX, |limits| limits.units);
        for (index, application) in self.applications.values_mut().enumerate() {
            application.restrict(rights);
            application.exceeds_units = index >= most;
        }
        self.rights = Arc::clone(rights);
    }
}

/// Returns whether a file can contain declarations: YAML or JSON by name, with one of [`NEEDLES`]
/// inside.
pub fn may_declare(path: &str, bytes: &[u8]) -> bool {
    ENDINGS.iter().any(|ending| path.ends_with(ending)) && has_needle(bytes)
}

fn has_needle(bytes: &[u8]) -> bool {
    let is_in = |needle: &&str| memchr::memmem::find(bytes, needle.as_bytes()).is_some();
    NEEDLES.iter().any(is_in)
}

/// Returns whether a document of a file declares something, valid or not.
pub fn declares(path: &str, bytes: &[u8]) -> bool {
    let Some(Ok(stream)) = may_declare(path, bytes)
        .then(|| yaml::parse(std::str::from_utf8(bytes).unwrap_or_default()))
    else {
        return false;
    };
    stream.documents().flatten().any(is_declaration)
}

fn is_declaration(root: yaml::Node<'_>) -> bool {
    let group = root
        .get("apiVersion")
        .and_then(|node| node.value())
        .unwrap_or_default();
    group.starts_with("tagboat.dev/") || group.starts_with(flux::GROUP)
}

/// Reads files, each with its path from the root of the repository. `branch` is the configured
/// branch, against which imported automations are checked; without it that check is skipped.
pub fn read<'f>(
    files: impl IntoIterator<Item = (&'f str, &'f [u8])>,
    branch: Option<&str>,
) -> Declarations {
    collect(files, branch).finish()
}

/// Reads files of which only the policies matter, and of those only how they choose: a policy of
/// Flux may come without its ImageRepository.
pub fn read_policies<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Declarations {
    let mut all = collect(files, None);
    all.flux.keep_lone_policies();
    all.finish()
}

/// Reads the health rules of all Applications in files, whatever else is in them.
///
/// # Errors
/// Every mistake, if one of them is an error.
pub fn read_health_rules<'f>(
    files: impl IntoIterator<Item = (&'f str, &'f [u8])>,
) -> Result<Vec<Arc<HealthRule>>, Vec<Diagnostic>> {
    let mut all = CollectedDocuments::default();
    for (path, bytes) in files {
        // Standard input has no ending.
        if has_needle(bytes) {
            all.text(path, bytes, None);
        }
    }
    let is_error = |mistake: &Diagnostic| mistake.severity == Severity::Error;
    if all.mistakes.iter().any(is_error) {
        return Err(all.mistakes);
    }
    let applications = all.applications.into_iter();
    Ok(applications
        .flat_map(|application| application.health)
        .collect())
}

fn collect<'f>(
    files: impl IntoIterator<Item = (&'f str, &'f [u8])>,
    branch: Option<&str>,
) -> CollectedDocuments {
    let mut all = CollectedDocuments::default();
    for (path, bytes) in files {
        all.file(path, bytes, branch);
    }
    all
}

#[derive(Default)]
struct CollectedDocuments {
    policies: Vec<ImagePolicy>,
    environments: Vec<Environment>,
    applications: Vec<Application>,
    flux: flux::FluxImport,
    mistakes: Vec<Diagnostic>,
}

impl CollectedDocuments {
    fn file(&mut self, path: &str, bytes: &[u8], branch: Option<&str>) {
        if may_declare(path, bytes) {
            self.text(path, bytes, branch);
        }
    }

    fn text(&mut self, path: &str, bytes: &[u8], branch: Option<&str>) {
        let whole = |message: String| Diagnostic {
            place: SourcePlace::file(path),
            severity: Severity::Error,
            message,
        };
        if bytes.len() > MOST_BYTES {
            self.mistakes.push(whole(format!(
                "the file has {} MB; declarations are read up to {} MB",
                bytes.len() >> 20,
                MOST_BYTES >> 20
            )));
            return;
        }
        let Ok(source) = std::str::from_utf8(bytes) else {
            self.mistakes
                .push(whole("the file is not UTF-8".to_owned()));
            return;
        };
        let stream = match yaml::parse(source) {
            Ok(stream) => stream,
            Err(error) => {
                self.mistakes.push(Diagnostic {
                    place: SourcePlace {
                        file: path.to_owned(),
                        line: error.line as usize,
                        column: error.column as usize,
                    },
                    severity: Severity::Error,
                    message: format!("not YAML: {}", error.message),
                });
                return;
            }
        };
        for root in stream.documents().flatten() {
            if is_declaration(root) {
                match SpecDocument::new(path, root, stream.source()) {
                    Ok(document) => self.document(&document, branch),
                    Err(mistake) => self.mistakes.push(mistake),
                }
            }
        }
    }

    fn document(&mut self, document: &SpecDocument<'_>, branch: Option<&str>) {
        if document
            .word("apiVersion")
            .is_some_and(|group| group.starts_with(flux::GROUP))
        {
            self.mistakes.extend(self.flux.read(document, branch));
            return;
        }
        let mut at = SpecReader::new(document);
        match document.word("kind") {
            _ if document.word("apiVersion") != Some(API_VERSION) => {
                at.error("/apiVersion", format!("write {API_VERSION}"))
            }
            Some("ImagePolicy") => {
                let read = at.shape(&POLICY).and_then(|raw| policy::read(&mut at, raw));
                self.policies.extend(read.filter(|_| !at.failed()));
            }
            Some("Environment") => {
                let raw = at.shape(&ENVIRONMENT);
                let read = raw.and_then(|raw| environment::read(&mut at, raw));
                self.environments.extend(read.filter(|_| !at.failed()));
            }
            Some("Application") => {
                let raw = at.shape(&APPLICATION);
                let read = raw.and_then(|raw| application::read(&mut at, raw));
                self.applications.extend(read.filter(|_| !at.failed()));
            }
            kind => {
                let known = ["ImagePolicy", "Environment", "Application"];
                let kind = kind.unwrap_or_default();
                let help = nearest(kind, &known).map_or(String::new(), |nearest| {
                    format!("; did you mean {nearest}?")
                });
                at.error(
                    "/kind",
                    format!(
                        "{kind:?} is no kind of {API_VERSION}: {}{help}",
                        known.join(", ")
                    ),
                );
            }
        }
        self.mistakes.append(&mut at.mistakes);
    }

    fn finish(mut self) -> Declarations {
        let (policies, mistakes) = self.flux.policies();
        self.policies.extend(policies);
        self.mistakes.extend(mistakes);
        self.environments.append(&mut self.flux.environments);
        let mut mistakes = self.mistakes;
        let policies = unique(
            "ImagePolicy",
            self.policies,
            |policy| (policy.name.clone(), policy.place.clone()),
            &mut mistakes,
        );
        let environments = unique(
            "Environment",
            self.environments,
            |environment| (environment.name.clone(), environment.place.clone()),
            &mut mistakes,
        );
        let applications = unique(
            "Application",
            self.applications,
            |application| (application.name.clone(), application.place.clone()),
            &mut mistakes,
        );
        for application in applications.values() {
            if !environments.contains_key(&application.environment) {
                let known: Vec<&str> = environments.keys().map(String::as_str).collect();
                let help = nearest(&application.environment, &known)
                    .map_or(String::new(), |nearest| {
                        format!("; did you mean {nearest:?}?")
                    });
                mistakes.push(Diagnostic {
                    place: application.place.clone(),
                    severity: Severity::Error,
                    message: format!(
                        "there is no Environment {:?}{help}",
                        application.environment
                    ),
                });
            }
        }
        mistakes.sort();
        mistakes.dedup();
        let repositories = self
            .flux
            .repositories()
            .map(|repository| (repository.name.clone(), repository))
            .collect();
        Declarations {
            policies,
            environments,
            applications,
            repositories,
            mistakes,
            rights: Arc::default(),
        }
    }
}

/// Keeps the declarations with a unique identity. Of two with one name neither is used: the choice
/// would be a guess.
fn unique<K: Ord + Clone + std::fmt::Display, T>(
    kind: &str,
    all: Vec<T>,
    identity: impl Fn(&T) -> (K, SourcePlace),
    mistakes: &mut Vec<Diagnostic>,
) -> BTreeMap<K, T> {
    let mut places: BTreeMap<K, Vec<SourcePlace>> = BTreeMap::new();
    for one in &all {
        let (key, place) = identity(one);
        places.entry(key).or_default().push(place);
    }
    for (key, places) in places.iter().filter(|(_, places)| places.len() > 1) {
        for place in places {
            let others: Vec<String> = places
                .iter()
                .filter(|other| *other != place)
                .map(SourcePlace::to_string)
                .collect();
            mistakes.push(Diagnostic {
                place: place.clone(),
                severity: Severity::Error,
                message: format!(
                    "{kind} {key} is declared twice, also at {}; none of them is used",
                    others.join(", ")
                ),
            });
        }
    }
    all.into_iter()
        .map(|one| (identity(&one).0, one))
        .filter(|(key, _)| places[key].len() == 1)
        .collect()
}
