//! Responses cached for one pass: settings of a branch or the repository, labels. Cleared when a
//! pass lists the pull requests.

use super::ForgeError;
use std::{any::Any, collections::HashMap, sync::Arc};
use tokio::sync::Mutex;

/// Answers by name. A pass has a handful of them.
#[derive(Default)]
pub(crate) struct PassCache {
    known: Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>,
}

impl PassCache {
    /// The value of this name; asked for where it is not known, and only once by those who want it
    /// at the same time. An error is not remembered.
    pub(crate) async fn once<T: Send + Sync + 'static>(
        &self,
        name: &str,
        ask: impl Future<Output = Result<T, ForgeError>> + Send,
    ) -> Result<Arc<T>, ForgeError> {
        let mut known = self.known.lock().await;
        if let Some(value) = known
            .get(name)
            .and_then(|value| Arc::clone(value).downcast().ok())
        {
            return Ok(value);
        }
        let value = Arc::new(ask.await?);
        known.insert(
            name.to_owned(),
            Arc::clone(&value) as Arc<dyn Any + Send + Sync>,
        );
        Ok(value)
    }

    /// Asks for it again the next time.
    pub(crate) async fn forget(&self, name: &str) {
        self.known.lock().await.remove(name);
    }

    /// Asks for everything again.
    pub(crate) async fn clear(&self) {
        self.known.lock().await.clear();
    }
}
