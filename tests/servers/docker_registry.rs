//! Debian's `docker-registry`.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// User and password that the registry accepts with [`Options::sign_in`].
pub(crate) const USER: (&str, &str) = ("robot", "correct horse");
/// Their htpasswd line (bcrypt, cost 5).
const HTPASSWD: &str = "robot:$2y$05$o5E4v3ZTdLjTa8LXyfBFV.Q8pYx5OZRiyr8I5JCiV8rq7jR1EYyRK\n";

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// With a certificate for 127.0.0.1 by a CA of the test.
    pub tls: bool,
    /// With basic auth.
    pub sign_in: bool,
}

pub(crate) struct DockerRegistry {
    pub host: String,
    pub options: Options,
    child: Child,
    folder: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts one and waits until it listens.
    pub(crate) fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: '{}'}}\nhttp:\n  addr: 127.0.0.1:0\n",
            path("data").display()
        );
        if options.tls {
            certificates(folder.path());
            config += &format!(
                "  tls: {{certificate: '{}', key: '{}'}}\n",
                path("server.pem").display(),
                path("server.key").display()
            );
        }
        if options.sign_in {
            std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
            config += &format!(
                "auth:\n  htpasswd: {{realm: test, path: '{}'}}\n",
                path("htpasswd").display()
            );
        }
        std::fs::write(path("config.yml"), config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed: run tests/run registry");
        let log = BufReader::new(child.stderr.take().unwrap());
        let (send, listening) = mpsc::channel();
        // Reads to the end, so that the registry never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let _ = send.send(rest.split(['"', ',']).next().unwrap_or_default().to_owned());
                }
            }
        });
        let host = listening
            .recv_timeout(Duration::from_secs(20))
            .expect("docker-registry says where it listens");
        Self {
            host,
            options,
            child,
            folder,
        }
    }

    /// The CA's certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn certificates(folder: &Path) {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
        KeyPair, KeyUsagePurpose,
    };
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(DnType::CommonName, "test authority");
    ca.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let ca_key = KeyPair::generate().unwrap();
    std::fs::write(
        folder.join("ca.pem"),
        ca.self_signed(&ca_key).unwrap().pem(),
    )
    .unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    std::fs::write(
        folder.join("server.pem"),
        server.signed_by(&key, &issuer).unwrap().pem(),
    )
    .unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}
