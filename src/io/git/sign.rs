//! SSH signatures of commits, made in this process.

use super::error::{GitError, plain};
use crate::core::secret::Secret;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey};

/// A private key that signs commits: ed25519, or ECDSA with P-256 or P-384.
#[derive(Clone)]
pub struct CommitSigner(PrivateKey);

impl CommitSigner {
    /// Reads an OpenSSH private key, decrypting it where it is encrypted.
    ///
    /// # Errors
    /// [`GitError::Key`] for another form, a missing or wrong passphrase, and for kinds that cannot
    /// sign here: RSA (the pure Rust implementation leaks its timing, RUSTSEC-2023-0071) and keys
    /// that live on a security token.
    pub fn parse(pem: &Secret, passphrase: Option<&Secret>) -> Result<Self, GitError> {
        let wrong = |why: &str| GitError::Key(why.to_owned());
        let key = PrivateKey::from_openssh(pem.expose().trim()).map_err(|error| {
            wrong(&format!(
                "is no OpenSSH private key: {}",
                plain(&error.to_string())
            ))
        })?;
        match key.algorithm() {
            Algorithm::Ed25519 => {}
            Algorithm::Ecdsa {
                curve: ssh_key::EcdsaCurve::NistP256 | ssh_key::EcdsaCurve::NistP384,
            } => {}
            Algorithm::Rsa { .. } => {
                return Err(wrong(
                    "RSA keys are not supported: make one with ssh-keygen -t ed25519",
                ));
            }
            other => {
                return Err(wrong(&format!(
                    "{other} keys are not supported: make one with ssh-keygen -t ed25519"
                )));
            }
        }
        if !key.is_encrypted() {
            return Ok(Self(key));
        }
        let passphrase =
            passphrase.ok_or_else(|| wrong("is encrypted, and no passphrase is given"))?;
        let key = key
            .decrypt(passphrase.expose())
            .map_err(|_| wrong("the passphrase does not open it"))?;
        Ok(Self(key))
    }

    /// The public half in the form of `authorized_keys` and `allowed_signers`.
    pub fn public(&self) -> String {
        self.0.public_key().to_openssh().unwrap_or_default()
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.0.public_key().clone()
    }

    /// The armoured signature of a commit object, for its `gpgsig` header. The namespace `git` is
    /// what `git verify-commit` asks for.
    pub(crate) fn sign(&self, commit: &[u8]) -> Result<String, GitError> {
        let signature = self
            .0
            .sign("git", HashAlg::Sha512, commit)
            .and_then(|signature| signature.to_pem(LineEnding::LF));
        signature
            .map(|pem| pem.trim_end().to_owned())
            .map_err(|error| GitError::Key(plain(&error.to_string())))
    }
}

impl std::fmt::Debug for CommitSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}
