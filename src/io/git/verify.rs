//! Signatures of commits, checked against the keys of the settings.
//!
//! SSH signatures are checked in this process. OpenPGP signatures are checked by the `gpgv`
//! program against a keyring of its own: a library for them would bring an RSA implementation that
//! leaks its timing (RUSTSEC-2023-0071).

use super::{
    error::{GitError, plain},
    mirror::Mirror,
    sign::CommitSigner,
};
use crate::io::private;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gix::ObjectId;
use ring::signature as rsa;
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig, public::KeyData};
use std::{
    fs::{self, File},
    io::{Read as _, Seek as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Bytes of a commit object that is verified.
const MAX_COMMIT: usize = 1 << 20;

/// Bytes of a signature.
const MAX_SIGNATURE: usize = 64 << 10;

/// Bytes read of what gpgv says.
const MAX_STATUS: u64 = 64 << 10;

/// The time limit of gpgv, and the pace at which its end is looked for.
const GPGV_TIMEOUT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(2));

/// The namespace of Git's SSH signatures.
const NAMESPACE: &str = "git";

/// The keys whose signatures count.
#[derive(Debug, Default)]
pub struct CommitKeys {
    ssh: Vec<PublicKey>,
    /// The folder of the keyring for gpgv.
    keyring: Option<KeyringFolder>,
    /// The key that tagboat signs with.
    own: Option<PublicKey>,
}

/// Where the keyring is.
#[derive(Debug)]
enum KeyringFolder {
    Kept(PathBuf),
    /// Deleted when dropped.
    Temporary(tempfile::TempDir),
}

impl KeyringFolder {
    fn path(&self) -> &Path {
        match self {
            KeyringFolder::Kept(path) => path,
            KeyringFolder::Temporary(folder) => folder.path(),
        }
    }
}

/// A commit's signature, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureVerdict {
    /// Signed by a named key.
    Trusted,
    /// Signed by the key that tagboat itself signs with, which is not named.
    Own,
    /// Not signed, or not by a named key; the reason completes "the commit …".
    Refused(String),
}

/// A commit as far as its verification needs it.
struct SignedCommit {
    signature: Option<Vec<u8>>,
    payload: Vec<u8>,
}

impl CommitKeys {
    /// Returns the keys with that of our own commits.
    #[must_use]
    pub fn with_own(self, signer: Option<&CommitSigner>) -> Self {
        Self {
            own: signer.map(CommitSigner::public_key),
            ..self
        }
    }

    /// Adds an OpenSSH public key.
    ///
    /// # Errors
    /// [`GitError::PublicKey`] if it is none, or of a kind whose signatures cannot be checked.
    pub fn add_ssh(&mut self, text: &str) -> Result<(), GitError> {
        let wrong = |why: &str| GitError::PublicKey(why.to_owned());
        let key = PublicKey::from_openssh(text.trim()).map_err(|error| {
            wrong(&format!(
                "is no OpenSSH public key: {}",
                plain(&error.to_string())
            ))
        })?;
        let is_known = matches!(
            key.algorithm(),
            Algorithm::Ed25519
                | Algorithm::SkEd25519
                | Algorithm::SkEcdsaSha2NistP256
                | Algorithm::Rsa { .. }
                | Algorithm::Ecdsa {
                    curve: ssh_key::EcdsaCurve::NistP256 | ssh_key::EcdsaCurve::NistP384
                }
        );
        if !is_known {
            return Err(wrong(&format!(
                "{} keys are not supported",
                key.algorithm()
            )));
        }
        self.ssh.push(key);
        Ok(())
    }

    /// Adds armoured OpenPGP public keys. Their keyring is written to `folder`, or else to a
    /// temporary one.
    ///
    /// # Errors
    /// [`GitError::PublicKey`] if the text has none, or gpgv is not installed.
    pub fn add_gpg(&mut self, text: &str, folder: Option<&Path>) -> Result<(), GitError> {
        let failed =
            |error: std::io::Error| GitError::PublicKey(format!("cannot keep it: {error}"));
        let bytes = dearmored(text)
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| {
                GitError::PublicKey("is no armoured OpenPGP public key block".to_owned())
            })?;
        let (folder, mut keyring) = match self.keyring.take() {
            Some(folder) => {
                let keyring = fs::read(folder.path().join(KEYRING)).map_err(failed)?;
                (folder, keyring)
            }
            None => {
                gpgv_exists()?;
                let folder = match folder {
                    Some(folder) => {
                        private::create_folder(folder).map_err(failed)?;
                        KeyringFolder::Kept(folder.to_owned())
                    }
                    None => KeyringFolder::Temporary(tempfile::tempdir().map_err(failed)?),
                };
                (folder, Vec::new())
            }
        };
        keyring.extend(bytes);
        fs::write(folder.path().join(KEYRING), keyring).map_err(failed)?;
        self.keyring = Some(folder);
        Ok(())
    }

    fn judge(&self, commit: &SignedCommit) -> SignatureVerdict {
        let Some(signature) = &commit.signature else {
            return SignatureVerdict::Refused("is not signed".to_owned());
        };
        if signature.len() > MAX_SIGNATURE || commit.payload.len() > MAX_COMMIT {
            return SignatureVerdict::Refused("is too large to be verified".to_owned());
        }
        if signature.starts_with(b"-----BEGIN SSH SIGNATURE-----") {
            self.judge_ssh(signature, &commit.payload)
        } else if signature.starts_with(b"-----BEGIN PGP SIGNATURE-----") {
            self.judge_gpg(signature, &commit.payload)
        } else {
            SignatureVerdict::Refused(
                "has a signature that is neither of SSH nor of OpenPGP".to_owned(),
            )
        }
    }

    fn judge_ssh(&self, signature: &[u8], payload: &[u8]) -> SignatureVerdict {
        let refused = |why: &str| SignatureVerdict::Refused(why.to_owned());
        let Ok(signature) = SshSig::from_pem(signature) else {
            return refused("has a damaged SSH signature");
        };
        let named = |key: &&PublicKey| key.key_data() == signature.public_key();
        // Our own key vouches for our own change alone, also where it is named.
        let own = self.own.as_ref().filter(named);
        let (key, verdict) = match (own, self.ssh.iter().find(named)) {
            (Some(own), _) => (own, SignatureVerdict::Own),
            (None, Some(key)) => (key, SignatureVerdict::Trusted),
            (None, None) => {
                let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256);
                return SignatureVerdict::Refused(format!(
                    "is signed by the SSH key {fingerprint}, which verify.keys does not name"
                ));
            }
        };
        if signature.namespace() != NAMESPACE {
            return refused("has an SSH signature that was made for something else than Git");
        }
        let is_valid = match key.key_data() {
            KeyData::Rsa(key) => is_rsa_valid(key, &signature, payload),
            _ => key.verify(NAMESPACE, payload, &signature).is_ok(),
        };
        match is_valid {
            true => verdict,
            false => refused("has an SSH signature that does not fit its content"),
        }
    }

    fn judge_gpg(&self, signature: &[u8], payload: &[u8]) -> SignatureVerdict {
        let Some(folder) = &self.keyring else {
            return SignatureVerdict::Refused(
                "is signed by an OpenPGP key, and verify.keys names none".to_owned(),
            );
        };
        match gpgv(folder.path(), signature, payload) {
            Ok(status) => judge_status(&status),
            Err(why) => {
                SignatureVerdict::Refused(format!("has a signature that gpgv cannot check: {why}"))
            }
        }
    }
}

impl Mirror {
    /// Judges the signature of a commit.
    ///
    /// # Errors
    /// [`GitError::Broken`] if the commit is missing or damaged.
    pub fn judge_signature(
        &self,
        id: ObjectId,
        keys: &CommitKeys,
    ) -> Result<SignatureVerdict, GitError> {
        let broken = |error: &dyn std::fmt::Display| self.broken("commit", id, error);
        let repo = self.local();
        let commit = repo.find_commit(id).map_err(|error| broken(&error))?;
        let found = commit.signature().map_err(|error| broken(&error))?;
        let commit = match found {
            Some((signature, payload)) => SignedCommit {
                signature: Some(signature.to_vec()),
                payload: payload.to_bstring().into(),
            },
            None => SignedCommit {
                signature: None,
                payload: Vec::new(),
            },
        };
        Ok(keys.judge(&commit))
    }

    /// Returns the first parent of a commit.
    ///
    /// # Errors
    /// [`GitError::Broken`] if the commit is missing or damaged.
    pub fn first_parent(&self, id: ObjectId) -> Result<Option<ObjectId>, GitError> {
        let repo = self.local();
        let commit = repo
            .find_commit(id)
            .map_err(|error| self.broken("commit", id, &error))?;
        Ok(commit.parent_ids().next().map(gix::Id::detach))
    }
}

/// Checks an RSA signature: RFC 8332 names two kinds, of which the one with SHA-1 is not among.
fn is_rsa_valid(key: &ssh_key::public::RsaPublicKey, signature: &SshSig, payload: &[u8]) -> bool {
    let algorithm: &rsa::RsaParameters = match signature.algorithm() {
        Algorithm::Rsa {
            hash: Some(HashAlg::Sha512),
        } => &rsa::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Rsa {
            hash: Some(HashAlg::Sha256),
        } => &rsa::RSA_PKCS1_2048_8192_SHA256,
        _ => return false,
    };
    let (Some(n), Some(e)) = (key.n.as_positive_bytes(), key.e.as_positive_bytes()) else {
        return false;
    };
    let Ok(signed) = SshSig::signed_data(NAMESPACE, signature.hash_alg(), payload) else {
        return false;
    };
    rsa::RsaPublicKeyComponents { n, e }
        .verify(algorithm, &signed, signature.signature_bytes())
        .is_ok()
}

/// The keyring's file in its folder.
const KEYRING: &str = "keys.gpg";

/// Decodes the blocks of an armoured text (RFC 9580, section 6), joined.
fn dearmored(text: &str) -> Option<Vec<u8>> {
    const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let block = &rest[start + BEGIN.len()..];
        let end = block.find("-----END PGP PUBLIC KEY BLOCK-----")?;
        // Headers end at an empty line; the line that begins with `=` is a checksum.
        let lines = block[..end].lines().map(str::trim).skip(1);
        let body = lines
            .skip_while(|line| line.contains(':'))
            .filter(|line| !line.is_empty() && !line.starts_with('='));
        keys.extend(STANDARD.decode(body.collect::<String>()).ok()?);
        rest = &block[end..];
    }
    Some(keys)
}

fn gpgv_exists() -> Result<(), GitError> {
    let run = Command::new("gpgv")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match run {
        Ok(status) if status.success() => Ok(()),
        _ => Err(GitError::PublicKey(
            "is an OpenPGP key, and the program gpgv, which checks their signatures, is not installed"
                .to_owned(),
        )),
    }
}

/// Has gpgv check a detached signature; returns its status lines.
fn gpgv(folder: &Path, signature: &[u8], payload: &[u8]) -> Result<String, String> {
    let io = |error: std::io::Error| error.to_string();
    let work = tempfile::Builder::new()
        .prefix("check-")
        .tempdir_in(folder)
        .map_err(io)?;
    let (signed, data) = (work.path().join("signature"), work.path().join("data"));
    fs::write(&signed, signature).map_err(io)?;
    fs::write(&data, payload).map_err(io)?;
    let mut status: File = tempfile::tempfile_in(work.path()).map_err(io)?;
    let mut child = Command::new("gpgv")
        .args(["--status-fd", "1", "--keyring"])
        .arg(folder.join(KEYRING))
        .args([&signed, &data])
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GNUPGHOME", work.path())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(status.try_clone().map_err(io)?)
        .stderr(Stdio::null())
        .spawn()
        .map_err(io)?;
    let (timeout, pace) = GPGV_TIMEOUT;
    let end = Instant::now() + timeout;
    while child.try_wait().map_err(io)?.is_none() {
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it took more than {} s", timeout.as_secs()));
        }
        #[expect(clippy::disallowed_methods, reason = "this runs in blocking tasks")]
        std::thread::sleep(pace);
    }
    let mut text = String::new();
    status.rewind().map_err(io)?;
    status
        .take(MAX_STATUS)
        .read_to_string(&mut text)
        .map_err(io)?;
    Ok(text)
}

/// Judges by the status lines of gpgv (doc/DETAILS of GnuPG). One good signature is needed, and
/// nothing else may be said of it.
fn judge_status(status: &str) -> SignatureVerdict {
    let lines = || {
        status
            .lines()
            .filter_map(|line| line.strip_prefix("[GNUPG:] "))
    };
    let word = |line: &str, index| line.split(' ').nth(index).unwrap_or("?").to_owned();
    let find = |wanted: &str| lines().find(|line| word(line, 0) == wanted);
    let count = |wanted: &str| lines().filter(|line| word(line, 0) == wanted).count();
    let problem = [
        (
            "BADSIG",
            "has an OpenPGP signature that does not fit its content",
        ),
        ("EXPSIG", "has an OpenPGP signature that has expired"),
        ("EXPKEYSIG", "is signed by an OpenPGP key that has expired"),
        ("REVKEYSIG", "is signed by an OpenPGP key that was revoked"),
    ]
    .into_iter()
    .find(|(code, _)| find(code).is_some());
    if let Some((_, why)) = problem {
        return SignatureVerdict::Refused(why.to_owned());
    }
    if let Some(line) = find("NO_PUBKEY") {
        let key = plain(&word(line, 1));
        return SignatureVerdict::Refused(format!(
            "is signed by the OpenPGP key {key}, which verify.keys does not name"
        ));
    }
    match (count("GOODSIG"), count("VALIDSIG"), count("NEWSIG")) {
        (1, 1, 0 | 1) if find("ERRSIG").is_none() => SignatureVerdict::Trusted,
        _ => SignatureVerdict::Refused(
            "has an OpenPGP signature that gpgv does not accept".to_owned(),
        ),
    }
}
