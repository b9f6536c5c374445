//! Settings that count only in a file that the user has named.

use super::{
    super::forge::{ForgeCredentials, ForgeSpec},
    GitAccess, RegistryCredentials, RenderSandbox, RenderSettings, Settings,
};

impl Settings {
    /// Returns the fields that run a program, use a credential, or reach this machine's files and
    /// clusters, as paths from the root.
    ///
    /// A checkout brings its own `tagboat.yaml`. Whoever wrote it must not choose these.
    pub fn sensitive_fields(&self) -> Vec<String> {
        let mut fields = Vec::new();
        for (index, repository) in self.repositories.iter().enumerate() {
            let mut add = |is_set: bool, field: &str| {
                if is_set {
                    fields.push(format!("repositories[{index}].{field}"));
                }
            };
            let access = match &repository.access {
                GitAccess::Basic { .. } => "token",
                GitAccess::Ssh {
                    identity: None,
                    known_hosts: None,
                }
                | GitAccess::Anonymous => "",
                GitAccess::Ssh { .. } => "ssh",
            };
            let has_login =
                |forge: &ForgeSpec| !matches!(forge.credentials, ForgeCredentials::Anonymous);
            add(!access.is_empty(), access);
            add(repository.signing_key.is_some(), "signingKey");
            // A forge takes the token of its repository where it has none of its own.
            let forge = repository.forge.as_ref().is_some_and(has_login);
            add(forge && access != "token", "forge");
            add(repository.url.starts_with("file:"), "url");
        }
        for (index, registry) in self.registries.iter().enumerate() {
            if registry.credentials != RegistryCredentials::Anonymous {
                fields.push(format!("registries[{index}].credentials"));
            }
        }
        if !self.clusters.is_empty() {
            fields.push("clusters".to_owned());
        }
        let usual = RenderSettings::default();
        for (is_set, field) in [
            (self.render.kustomize != usual.kustomize, "kustomize"),
            (self.render.helm != usual.helm, "helm"),
            (self.render.allow_remote_bases, "allowRemoteBases"),
            (self.render.sandbox == RenderSandbox::Disabled, "sandbox"),
        ] {
            if is_set {
                fields.push(format!("render.{field}"));
            }
        }
        if self.store.is_some() {
            fields.push("store".to_owned());
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::settings;

    fn sensitive(text: &str) -> Vec<String> {
        let (settings, _) = settings::read("tagboat.yaml", text).unwrap();
        settings.sensitive_fields()
    }

    #[test]
    fn settings_of_a_checkout_choose_no_program() {
        let plain = "repositories: [{url: 'https://git.example.com/team/fleet.git', policies: policies, interval: 5m}]\n";
        assert!(sensitive(plain).is_empty());
        for (more, fields) in [
            ("registries: [{prefix: ghcr.io, requestsPerSecond: 5}]", ""),
            ("render: {timeout: 2m, memory: 512, sandbox: required}", ""),
            ("render: {kustomize: ./evil.sh}", "render.kustomize"),
            ("render: {helm: /usr/bin/id}", "render.helm"),
            ("render: {sandbox: disabled}", "render.sandbox"),
            (
                "render: {allowRemoteBases: true}",
                "render.allowRemoteBases",
            ),
            ("clusters: [{name: a, kubeconfig: kube}]", "clusters"),
            ("clusters: [{name: a, inCluster: true}]", "clusters"),
            ("store: here", "store"),
            (
                "registries: [{prefix: ghcr.io, credentials: {dockerConfig: docker.json}}]",
                "registries[0].credentials",
            ),
            (
                "registries: [{prefix: ghcr.io, credentials: {helper: evil}}]",
                "registries[0].credentials",
            ),
        ] {
            assert_eq!(
                sensitive(&format!("{plain}{more}\n")).join(" "),
                fields,
                "{more}"
            );
        }
        for (more, field) in [
            ("token: {env: TOKEN}", "repositories[0].token"),
            (
                "signingKey: {key: {file: key}}",
                "repositories[0].signingKey",
            ),
            (
                "forge: {token: {env: TOKEN}, kind: gitea}",
                "repositories[0].forge",
            ),
        ] {
            let text = plain.replace("interval: 5m", more);
            assert_eq!(sensitive(&text), [field], "{more}");
        }
        let file = plain.replace(
            "https://git.example.com/team/fleet.git",
            "file:///srv/fleet.git",
        );
        assert_eq!(sensitive(&file), ["repositories[0].url"]);
    }
}
