//! A revision of a fleet: its manifests, rendered as a repository's are.

use super::gate::Gate;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};
use tagboat::{
    io::render::{InputsKey, RenderInputs, RenderMethod, Rendered},
    objects::object::{CompactObject, Object, ObjectOrigin},
    reconcile::{Message, RenderFailure, RenderStage, RevisionRenderer, SHORT_RETRY},
    spec::Application,
};

/// Manifests by folder.
pub(crate) type Manifests = BTreeMap<String, Vec<Value>>;

/// The manifests of a fleet, as they are now and as they were at each revision.
#[derive(Default)]
pub(crate) struct FleetFiles {
    pub now: Mutex<Manifests>,
    followed: Mutex<HashMap<String, Manifests>>,
    /// Blocks all renderings while locked.
    pub rendering: Arc<tokio::sync::Mutex<()>>,
    /// Passed by the renderings of folders that begin with "chart-", which need a program.
    pub programs: Arc<Gate>,
}

impl FleetFiles {
    /// Keeps what a revision has, so that later ones can tell what they touch.
    pub(crate) fn follow(&self, revision: &str) {
        let now = self.now.lock().unwrap().clone();
        let mut followed = self.followed.lock().unwrap();
        followed.insert(revision.to_owned(), now);
    }

    fn of(&self, path: &str) -> Vec<Value> {
        let now = self.now.lock().unwrap();
        now.get(path).cloned().unwrap_or_default()
    }
}

fn hash(values: &[Value]) -> InputsKey {
    Sha256::digest(Value::from(values.to_vec()).to_string()).into()
}

/// Renders what the files have when they are asked.
pub(crate) struct FleetRevision(pub Arc<FleetFiles>);

impl RevisionRenderer for FleetRevision {
    fn begin(&self, application: &Application) -> Result<RenderStage, RenderFailure> {
        let files = &self.0;
        drop(files.rendering.blocking_lock());
        let path = &application.path;
        let values = files.of(path);
        let key = hash(&values);
        if values.iter().any(Value::is_null) {
            return Err(Message::application(format!("{path}/broken.yaml:1: not YAML")).into());
        }
        if let Some(why) = values.iter().find_map(Value::as_str) {
            return Err(RenderFailure {
                message: Message::application(format!("{path}: {why}")),
                retry: Some(SHORT_RETRY),
            });
        }
        let origin = |line| ObjectOrigin {
            file: format!("{path}/all.yaml").into(),
            line,
        };
        let objects = values
            .into_iter()
            .enumerate()
            .map(|(line, value)| Object::new(value).unwrap().at(origin(line + 1)));
        let rendered = Arc::new(Rendered {
            manifests: objects.map(CompactObject::new).collect(),
            how: RenderMethod::Plain,
            warnings: Vec::new(),
            left_out: Vec::new(),
            hash: format!("{key:?}"),
            inputs: Some(RenderInputs {
                key,
                paths: [path.clone()].into(),
            }),
        });
        if !path.starts_with("chart-") {
            return Ok(RenderStage::Rendered(rendered));
        }
        let programs = Arc::clone(&files.programs);
        Ok(RenderStage::Program {
            run: Box::new(move || {
                programs.pass();
                Ok(rendered)
            }),
            inputs: None,
        })
    }

    fn known_inputs(&self, application: &Application) -> Option<InputsKey> {
        drop(self.0.rendering.blocking_lock());
        let values = self.0.of(&application.path);
        (!application.path.starts_with("chart-")).then(|| hash(&values))
    }

    fn is_untouched(&self, earlier: &str, inputs: &RenderInputs) -> bool {
        let path = &inputs.paths[0];
        // A test that blocks the renderings wants the revision to be unread.
        let is_blocked = self.0.rendering.try_lock().is_err();
        let followed = self.0.followed.lock().unwrap();
        let before = followed.get(earlier).and_then(|then| then.get(path));
        !is_blocked && !path.starts_with("chart-") && before == self.0.now.lock().unwrap().get(path)
    }
}
