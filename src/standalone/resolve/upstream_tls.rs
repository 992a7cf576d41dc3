//! TLS to backends: what a Backend or a `BackendTLSPolicy` says → [`UpstreamTls`].

use std::net::IpAddr;

use super::refs::Broken;
use super::{Resolver, secrets};
use crate::standalone::manifest::backend_tls::BackendTls;
use crate::standalone::topology::{Address, UpstreamTls};

impl<'o> Resolver<'o> {
    /// What a policy says of a Service or a Backend.
    pub(super) fn tls_policy(&self, kind: &str, namespace: &str, name: &str) -> Option<&'o BackendTls> {
        let mut policies = self.objects.tls_policies.values().filter(|it| it.meta.namespace == namespace);
        let found = policies.find(|it| it.targets.iter().any(|to| to.kind == kind && to.name == name));
        found.map(|policy| &policy.tls)
    }
}

impl Resolver<'_> {
    /// How these endpoints prove themselves; the authorities are in this namespace.
    pub(super) fn upstream_tls(
        &self,
        namespace: &str,
        endpoints: &[Address],
        tls: &BackendTls,
    ) -> Result<UpstreamTls, Broken> {
        let mut authorities: Option<String> = None;
        for (kind, name) in &tls.authorities {
            let key = (namespace.to_owned(), name.clone());
            let found = if kind == "Secret" {
                self.objects.secrets.get(&key).and_then(|secret| secrets::text(secret, "ca.crt").ok())
            } else {
                let map = self.objects.config_maps.get(&key);
                map.and_then(|map| map.data.get("ca.crt")).map(|text| text.value.clone())
            };
            let Some(text) = found else {
                let short = format!("no `ca.crt` in {kind} {namespace}/{name}");
                return Err(Broken::new(
                    "InvalidBackendTLS",
                    short,
                    "; add it, so that the server can be verified",
                ));
            };
            let all = authorities.get_or_insert_default();
            all.push_str(text.trim_end());
            all.push('\n');
        }
        let mut names: Vec<&str> = Vec::new();
        for endpoint in endpoints {
            if let Address::Host(host, _) = endpoint
                && host.parse::<IpAddr>().is_err()
            {
                names.push(host);
            }
        }
        names.dedup();
        let own = match names.as_slice() {
            [only] => Some(only.trim_end_matches('.').to_owned()),
            _ => None,
        };
        Ok(UpstreamTls { name: tls.name.clone().or(own), authorities, insecure: tls.insecure })
    }
}
