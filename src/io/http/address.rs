//! Addresses that a public server must not lead a client to.

use reqwest::Url;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

/// The longest wait for a name's addresses.
const LOOKUP: Duration = Duration::from_secs(5);

/// Returns whether a host, with or without a port, is this machine by name: `localhost` or an
/// address like `127.0.0.1` or `[::1]`.
pub fn is_loopback(host: &str) -> bool {
    let port = host
        .rfind(':')
        .filter(|at| host[at + 1..].bytes().all(|byte| byte.is_ascii_digit()));
    let name = port.map_or(host, |at| &host[..at]);
    let address = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Returns whether a URL leads to this machine or into a private network, by its address or by
/// those of its name.
///
/// A name without an address here is none: behind a proxy, the proxy resolves it. A name whose
/// addresses change between this check and the connection is not caught; the request has no
/// credentials and its response is not shown.
pub async fn is_private(url: &Url) -> bool {
    let name = match url.host() {
        Some(url::Host::Ipv4(address)) => return is_private_address(address.into()),
        Some(url::Host::Ipv6(address)) => return is_private_address(address.into()),
        Some(url::Host::Domain(name)) => name,
        None => return false,
    };
    if is_loopback(name) || name.ends_with(".localhost") {
        return true;
    }
    let port = url.port_or_known_default().unwrap_or(443);
    match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name, port))).await {
        Ok(Ok(mut addresses)) => addresses.any(|address| is_private_address(address.ip())),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Returns whether an address is not of the public Internet (IANA special-purpose registries).
fn is_private_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(address) => is_private_v4(address),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
            }
        },
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    // 100.64.0.0/10 is shared by a carrier's customers (RFC 6598).
    let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.octets()[0] == 0
        || is_shared
}

/// The IPv4 address in a mapped address or in one of NAT64 (RFC 6052).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, .., high, low] = address.segments();
    let is_nat64 = first == 0x64 && second == 0xff9b;
    let nat64 = is_nat64.then(|| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    address.to_ipv4_mapped().or(nat64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts_table() {
        for host in [
            "localhost",
            "localhost:5000",
            "LOCALHOST:5000",
            "127.0.0.1",
            "127.3.2.1:80",
            "[::1]",
            "[::1]:5000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "ghcr.io",
            "localhost.example.org",
            "128.0.0.1:5000",
            "[::2]:1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn private_addresses_table() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ] {
            assert!(is_private_address(address.parse().unwrap()), "{address}");
        }
        for address in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(!is_private_address(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn private_url_by_literal_or_local_name() {
        for (url, expected) in [
            ("https://169.254.169.254/latest", true),
            ("https://[::1]:5000/", true),
            ("https://0x7f.1/", true),
            ("https://LOCALHOST:5000/", true),
            ("https://a.localhost/", true),
            ("https://198.51.100.7/", false),
        ] {
            assert_eq!(is_private(&url.parse().unwrap()).await, expected, "{url}");
        }
    }
}
