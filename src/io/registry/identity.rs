//! The identity presented to a registry.

use crate::core::secret::Secret;

/// The identity presented to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RegistryIdentity {
    Anonymous,
    Basic {
        username: String,
        password: Secret,
    },
    /// A token for the `Authorization` header.
    Bearer(Secret),
    /// A refresh token for the token service (docker's `identitytoken`).
    Refresh(Secret),
}
