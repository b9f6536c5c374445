//! Verified sources: which revision of a config repository may be deployed.

use super::{
    git_support::{NOW, bot, edit, mirror},
    update_support::{Fleet, Setup, deployment, env, now, semver},
};
use ssh_key::{
    LineEnding, PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use tagboat::{
    core::secret::Secret,
    io::git::{CommitMeta, CommitSigner, ObjectId, PushOutcome, RemoteAccess},
    service::engine::Engine,
    update::{DeployableRevision, RefusedHead},
};

const FILE: &str = "envs/dev/a.yaml";

/// A key of a person; `seed` tells the keys of a test apart.
fn key(seed: u8) -> CommitSigner {
    CommitSigner::parse(&Secret::new(pem(seed)), None).unwrap()
}

fn pem(seed: u8) -> String {
    let pair = KeypairData::from(Ed25519Keypair::from_seed(&[seed; 32]));
    let key = PrivateKey::new(pair, "test").unwrap();
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

/// A fleet whose commits need a signature.
struct Verified {
    fleet: Fleet,
}

impl Verified {
    fn new(verify: &str) -> Self {
        let declared = semver("web", "1.x", "") + &env("dev", "");
        let fleet = Fleet::with(
            &[("p.yaml", &declared), (FILE, &deployment(&["web:1.0.0"]))],
            &Setup::default(),
        );
        let this = Self { fleet };
        this.configure(verify);
        this
    }

    /// Writes the settings again; `verify` follows the keys.
    fn configure(&self, verify: &str) {
        let public = key(1).public();
        self.configure_all(&format!("      keys: [{{ssh: '{public}'}}]\n{verify}"));
    }

    /// Writes the settings again, with this `verify`.
    fn configure_all(&self, verify: &str) {
        let repository = format!("    verify:\n{verify}");
        let setup = Setup {
            repository: Box::leak(repository.into_boxed_str()),
            ..Setup::default()
        };
        self.fleet.configure(&self.fleet.server.url(), &setup);
    }

    /// Pushes a commit of a person, signed by this key.
    fn signed(&self, seed: u8, text: &str) -> ObjectId {
        let folder = tempfile::tempdir().unwrap();
        let url = self.fleet.server.url();
        let mirror = mirror(&folder.path().join("m"), &url, RemoteAccess::default());
        let head = mirror.fetch().unwrap().commit;
        let (person, key) = (bot(), key(seed));
        let meta = CommitMeta {
            author: &person,
            committer: &person,
            seconds: NOW,
            text,
            key: Some(&key),
        };
        let edits = [edit("README", text)];
        let draft = mirror.draft(head, &edits, &meta).unwrap().unwrap();
        assert_eq!(mirror.push(&draft).unwrap(), PushOutcome::Done);
        self.fleet.repository.head().unwrap().unwrap()
    }

    fn unsigned(&self, text: &str) -> ObjectId {
        self.fleet.person(&[("README", text)], text)
    }

    /// The deployable revision of a process.
    fn of(&self, engine: &Engine) -> (Option<ObjectId>, Option<RefusedHead>) {
        self.fleet.runtime.block_on(async {
            let updater = &engine.updaters[0];
            let head = updater.repo.refresh(&mut Vec::new()).await.unwrap();
            let DeployableRevision { revision, refused } = updater.deployable(&head).await.unwrap();
            assert_eq!(updater.refused_head(), refused);
            (revision.map(|(commit, _)| commit), refused)
        })
    }

    /// The same of a new process.
    fn fresh(&self) -> (Option<ObjectId>, Option<RefusedHead>) {
        self.of(&self.fleet.engine())
    }
}

fn reason(refused: Option<RefusedHead>) -> String {
    refused.expect("a refused head").reason
}

#[test]
fn verify_unsigned_head_keeps_the_last_revision() {
    let verified = Verified::new("");
    let engine = verified.fleet.engine();
    let (deployed, refused) = verified.of(&engine);
    assert_eq!(deployed, None, "nothing was ever signed");
    assert_eq!(reason(refused), "is not signed");

    let first = verified.signed(1, "first");
    assert_eq!(verified.of(&engine), (Some(first), None));
    let unsigned = verified.unsigned("unsigned");
    let (deployed, refused) = verified.of(&engine);
    assert_eq!(deployed, Some(first));
    let refused = refused.unwrap();
    assert_eq!(refused.commit, unsigned.to_string());
    assert_eq!(
        refused.to_string(),
        format!(
            "fleet: commit {} is not deployed: it is not signed; {} stays in force",
            &unsigned.to_string()[..10],
            &first.to_string()[..10]
        )
    );
    drop(engine);
    assert_eq!(
        verified.fresh(),
        (Some(first), Some(refused)),
        "after a restart"
    );

    let second = verified.signed(1, "second");
    assert_eq!(
        verified.fresh(),
        (Some(second), None),
        "the head alone counts"
    );
}

#[test]
fn verify_history_needs_every_commit_signed() {
    let verified = Verified::new("      mode: history\n");
    let first = verified.fleet.repository.head().unwrap().unwrap();
    assert_eq!(verified.fresh().0, None);
    verified.configure(&format!("      mode: history\n      from: '{first}'\n"));
    assert_eq!(verified.fresh(), (Some(first), None), "named by from");
    let second = verified.signed(1, "second");
    assert_eq!(verified.fresh(), (Some(second), None));
    let unsigned = verified.unsigned("unsigned");
    verified.signed(1, "on top");
    let (deployed, refused) = verified.fresh();
    assert_eq!(deployed, Some(second));
    let expected = format!(
        "builds on {}, which is not signed",
        &unsigned.to_string()[..10]
    );
    assert_eq!(reason(refused), expected);
}

#[test]
fn verify_history_survives_a_key_that_was_taken_away() {
    let verified = Verified::new("      mode: history\n");
    let root = verified.fleet.repository.head().unwrap().unwrap();
    let both = format!(
        "      mode: history\n      from: '{root}'\n      keys: [{{ssh: '{}'}}, {{ssh: '{}'}}]\n",
        key(1).public(),
        key(2).public()
    );
    let only_one = format!("      mode: history\n      from: '{root}'\n");
    verified.configure_all(&both);
    verified.signed(2, "by one who leaves");
    let last = verified.signed(1, "by one who stays");
    assert_eq!(verified.fresh(), (Some(last), None));
    verified.configure(&only_one);
    assert_eq!(verified.fresh(), (Some(last), None), "it was verified then");
    let next = verified.signed(1, "next");
    assert_eq!(verified.fresh(), (Some(next), None));
}

/// A mirror that is cloned again has no commit that a force-push took away.
#[test]
fn verify_lost_commit_is_not_forgotten() {
    let verified = Verified::new("");
    let first = verified.signed(1, "first");
    let second = verified.signed(1, "second");
    assert_eq!(verified.fresh(), (Some(second), None));
    verified.fleet.set_main(first);
    let store = verified.fleet.dir.path().join("store/repositories");
    for entry in std::fs::read_dir(store).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path().join("mirror")).unwrap();
    }
    let engine = verified.fleet.engine();
    for _ in 0..2 {
        let (deployed, refused) = verified.of(&engine);
        assert_eq!(deployed, None);
        let why = reason(refused);
        let start = format!("does not descend from {}", &second.to_string()[..10]);
        assert!(why.starts_with(&start), "{why}");
    }
    drop(engine);
    verified.configure(&format!("      from: '{first}'\n"));
    assert_eq!(
        verified.fresh(),
        (Some(first), None),
        "another from begins anew"
    );
}

#[test]
fn verify_other_key_is_named_by_fingerprint() {
    let verified = Verified::new("");
    verified.signed(2, "stranger");
    let why = reason(verified.fresh().1);
    assert!(
        why.starts_with("is signed by the SSH key SHA256:") && why.contains("verify.keys"),
        "{why}"
    );
    // A key that was taken away counts no longer, also for what was deployed.
    let signed = verified.signed(1, "ours");
    assert_eq!(verified.fresh().0, Some(signed));
    let settings = std::fs::read_to_string(verified.fleet.config()).unwrap();
    let changed = settings.replace(&key(1).public(), &key(2).public());
    std::fs::write(verified.fleet.config(), changed).unwrap();
    assert_eq!(verified.fresh().0, None);
}

#[test]
fn verify_copied_signature_does_not_fit() {
    let verified = Verified::new("");
    let signed = verified.signed(1, "signed");
    let repo = verified.fleet.repo();
    let mut commit = repo
        .find_commit(signed)
        .unwrap()
        .decode()
        .unwrap()
        .to_owned()
        .unwrap();
    commit.message = "another message".into();
    let forged = repo.write_object(&commit).unwrap().detach();
    verified.fleet.set_main(forged);
    let why = reason(verified.fresh().1);
    assert_eq!(why, "has an SSH signature that does not fit its content");
}

#[test]
fn verify_reset_branch_is_not_followed() {
    let verified = Verified::new("");
    let first = verified.signed(1, "first");
    let second = verified.signed(1, "second");
    assert_eq!(verified.fresh(), (Some(second), None));
    verified.fleet.set_main(first);
    let (deployed, refused) = verified.fresh();
    assert_eq!(deployed, Some(second), "its object is still in the mirror");
    let why = reason(refused);
    assert!(
        why.starts_with("is older than ") && why.ends_with(": the branch was reset"),
        "{why}"
    );
}

#[test]
fn verify_from_must_be_in_the_history() {
    let elsewhere = "0123456789012345678901234567890123456789";
    let verified = Verified::new(&format!("      from: '{elsewhere}'\n"));
    verified.signed(1, "signed");
    let why = reason(verified.fresh().1);
    assert_eq!(
        why,
        "does not descend from 0123456789, which verify.from names"
    );
}

#[test]
fn verify_own_commit_vouches_for_its_change_only() {
    let verified = Verified::new("");
    // The key counts no more where it is named, too.
    verified.configure_all(&format!(
        "      keys: [{{ssh: '{}'}}, {{ssh: '{}'}}]\n    signingKey: {{key: {{file: bot.pem}}}}\n",
        key(1).public(),
        key(3).public()
    ));
    std::fs::write(verified.fleet.dir.path().join("bot.pem"), pem(3)).unwrap();
    verified
        .fleet
        .publish("team/web", &["1.0.0", "1.1.0", "1.2.0"]);
    let declared = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      containers:\n      - {name: web, image: '{host}/team/web:1.0.0'}\n";
    let unsigned = verified.fleet.person(&[(FILE, declared)], "unsigned");
    let report = verified.fleet.pass(now());
    assert!(report.failures.is_empty(), "{report:#?}");
    let head = verified.fleet.repository.head().unwrap().unwrap();
    assert_ne!(head, unsigned, "the bot has committed");
    let (deployed, refused) = verified.fresh();
    assert_eq!(deployed, None);
    let expected = format!(
        "builds on {}, which is not signed",
        &unsigned.to_string()[..10]
    );
    assert_eq!(reason(refused), expected);

    verified.signed(1, "signed");
    let behind = verified.fleet.text(FILE).replace("1.2.0", "1.1.0");
    let stale = tempfile::tempdir().unwrap();
    let url = verified.fleet.server.url();
    let mirror = mirror(&stale.path().join("m"), &url, RemoteAccess::default());
    let head = mirror.fetch().unwrap().commit;
    let (person, signer) = (bot(), key(3));
    let meta = CommitMeta {
        author: &person,
        committer: &person,
        seconds: NOW,
        text: "an update",
        key: Some(&signer),
    };
    let draft = mirror.draft(head, &[edit(FILE, &behind)], &meta);
    assert_eq!(
        mirror.push(&draft.unwrap().unwrap()).unwrap(),
        PushOutcome::Done
    );
    let head = verified.fleet.repository.head().unwrap().unwrap();
    assert_eq!(verified.fresh(), (Some(head), None), "on a verified commit");
}

#[test]
fn verify_settings_mistakes_are_named() {
    let verified = Verified::new("");
    let settings = std::fs::read_to_string(verified.fleet.config()).unwrap();
    let public = format!("[{{ssh: '{}'}}]", key(1).public());
    for (keys, message) in [
        ("[]", "name between 1 and 100 keys"),
        (
            "[{ssh: nonsense}]",
            "verify.keys[0]: is no OpenSSH public key",
        ),
        (
            "[{gpg: nonsense}]",
            "is no armoured OpenPGP public key block",
        ),
        ("[{ssh: {file: missing.pub}}]", "missing.pub: No such file"),
        ("[{pgp: text}]", "pgp"),
    ] {
        std::fs::write(verified.fleet.config(), settings.replace(&public, keys)).unwrap();
        let output = verified.fleet.tagboat(&["run", "--once"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && text.contains(message),
            "{keys}: {text}"
        );
    }
    let short = settings + "      from: '0123456'\n";
    std::fs::write(verified.fleet.config(), short).unwrap();
    let output = verified.fleet.tagboat(&["run", "--once"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("write the full commit ID"), "{text}");
}
