//! Which parts run beside conntrack, by the configuration.

use crate::{
    addresses::LanConfig,
    config::{Config, DnsLogKind},
    dnslog::{self, DnsLogConfig},
    health::{self, HealthConfig},
    identity::{self, IdentityConfig},
    nflog::{self, NflogConfig},
    parts::Parts,
};

/// Starts them. To be called within a `LocalSet`.
pub(crate) fn start(config: &Config, parts: &mut Parts) {
    let health = HealthConfig { interval: config.health_interval, spool_dir: config.spool_dir.clone() };
    parts.start("health", move |outlet, state| health::run(health.clone(), outlet, state));

    let identity = IdentityConfig {
        interval: config.identity_interval,
        lease_files: config.lease_files.clone(),
        lan: LanConfig {
            lan_interfaces: config.lan_interfaces.clone(),
            wan_interfaces: config.wan_interfaces.clone(),
            lan_subnets: config.lan_subnets.clone(),
        },
    };
    parts.start("identity", move |outlet, state| identity::run(identity.clone(), outlet, state));

    if !config.nflog_groups.is_empty() || !config.dns_nflog_groups.is_empty() {
        let nflog = NflogConfig {
            groups: config.nflog_groups.clone(),
            dns_groups: config.dns_nflog_groups.clone(),
            source_rate: config.nflog_source_rate,
        };
        parts.start("nflog", move |outlet, state| nflog::run(nflog.clone(), outlet, state));
    }

    let log = match config.dns_log {
        DnsLogKind::File => Some(DnsLogConfig::File(config.dnsmasq_log_path.clone())),
        DnsLogKind::Logread => Some(DnsLogConfig::Logread("logread".into())),
        DnsLogKind::Off => None,
    };
    if let Some(log) = log {
        parts.start("dnslog", move |outlet, state| dnslog::run(log.clone(), outlet, state));
    }
}
