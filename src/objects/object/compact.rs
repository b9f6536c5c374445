//! Objects in compact form.

use super::{Object, ObjectError, ObjectOrigin};
use std::sync::Arc;

/// An object as its JSON text: a fifth of the memory of a tree. Ten thousand are kept at rest.
#[derive(Debug, Clone)]
pub struct CompactObject {
    json: Arc<str>,
    pub origin: Option<ObjectOrigin>,
}

impl CompactObject {
    pub fn new(object: Object) -> Self {
        let origin = object.origin.clone();
        Self {
            json: object.into_value().to_string().into(),
            origin,
        }
    }

    /// Takes the JSON text of an object.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_json(json: String, origin: Option<ObjectOrigin>) -> Result<Self, ObjectError> {
        let compact = Self {
            json: json.into(),
            origin,
        };
        compact.object()?;
        Ok(compact)
    }

    pub fn json(&self) -> &str {
        &self.json
    }

    /// Returns whether both share the same text, not only equal ones.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.json, &other.json)
    }

    /// Parses the object.
    ///
    /// # Errors
    /// None in practice: the text was written from an object.
    pub fn object(&self) -> Result<Object, ObjectError> {
        let value = serde_json::from_str(&self.json).map_err(|_| ObjectError::Shape("damaged"))?;
        let object = Object::new(value)?;
        Ok(match &self.origin {
            Some(origin) => object.at(origin.clone()),
            None => object,
        })
    }

    pub fn bytes(&self) -> usize {
        self.json.len()
    }
}
