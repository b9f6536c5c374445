//! Objects at rest.

use super::{Object, ObjectError, ObjectOrigin};
use std::sync::Arc;

/// An object at rest: its JSON, a fifth of the room that a tree takes. Ten thousand are kept while
/// nothing changes.
#[derive(Debug, Clone)]
pub struct CompactObject {
    json: Arc<str>,
    /// Where it stands.
    pub origin: Option<ObjectOrigin>,
}

impl CompactObject {
    /// Puts an object to rest.
    pub fn new(object: Object) -> Self {
        let origin = object.origin.clone();
        Self {
            json: object.into_value().to_string().into(),
            origin,
        }
    }

    /// Whether it is the same text, not only an equal one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.json, &other.json)
    }

    /// The object.
    ///
    /// # Errors
    /// None that can be met: the text was an object.
    pub fn object(&self) -> Result<Object, ObjectError> {
        let value = serde_json::from_str(&self.json).map_err(|_| ObjectError::Shape("damaged"))?;
        let object = Object::new(value)?;
        Ok(match &self.origin {
            Some(origin) => object.at(origin.clone()),
            None => object,
        })
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.json.len()
    }
}
