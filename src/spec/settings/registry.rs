//! Registries of `tagboat.yaml`.

use super::{RegistryCredentials, RegistrySettings, raw};
use crate::{core::schedule, spec::document::SpecReader};

pub(super) fn registry(
    at: &mut SpecReader<'_>,
    pointer: &str,
    raw: raw::RawRegistry,
) -> Option<RegistrySettings> {
    let raw::RawRegistry {
        prefix,
        credentials,
        insecure,
        ca_file,
        proxy,
        requests_per_second,
        concurrency,
        repositories,
        minimum_interval,
        push_time,
    } = raw;
    let minimum_interval = minimum_interval.and_then(|text| {
        let pointer = format!("{pointer}/minimumInterval");
        at.check(&pointer, schedule::duration(&text))
    });
    if prefix.is_empty() || prefix.contains("://") || prefix.contains(' ') {
        at.error(
            &format!("{pointer}/prefix"),
            format!("{prefix:?} must be a host, or a host and a path, without a scheme: \"ghcr.io/acme\""),
        );
    }
    let credentials = match credentials {
        None => Some(RegistryCredentials::Anonymous),
        Some(raw::RawCredentials {
            basic: Some(raw::RawBasic { username, password }),
            token: None,
            docker_config: None,
            helper: None,
        }) => Some(RegistryCredentials::Basic { username, password }),
        Some(raw::RawCredentials {
            basic: None,
            token: Some(token),
            docker_config: None,
            helper: None,
        }) => Some(RegistryCredentials::Token(token)),
        Some(raw::RawCredentials {
            basic: None,
            token: None,
            docker_config: Some(path),
            helper: None,
        }) => Some(RegistryCredentials::DockerConfig(path)),
        Some(raw::RawCredentials {
            basic: None,
            token: None,
            docker_config: None,
            helper: Some(helper),
        }) => {
            if !helper
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                || helper.is_empty()
            {
                at.error(
                    &format!("{pointer}/credentials/helper"),
                    "write the name after docker-credential-, as \"ecr-login\"",
                );
            }
            Some(RegistryCredentials::Helper(helper))
        }
        Some(_) => {
            at.error(
                &format!("{pointer}/credentials"),
                "write exactly one of basic, token, dockerConfig, helper",
            );
            None
        }
    };
    Some(RegistrySettings {
        prefix,
        credentials: credentials?,
        insecure,
        ca_file,
        proxy,
        requests_per_second,
        concurrency: concurrency.map(|concurrency| concurrency as usize),
        repositories,
        minimum_interval,
        push_time,
    })
}
