//! Which listeners of gateways can be served.

use std::collections::BTreeMap;

use super::refs::Referrer;
use super::{Resolver, secrets};
use crate::standalone::finding::Level;
use crate::standalone::manifest::gateway::{CONTROLLER, CertificateRef, Gateway, Listener};

impl Resolver<'_> {
    /// Looks at all listeners of all gateways.
    pub(super) fn listeners(&mut self) {
        let objects = self.objects;
        for gateway in objects.gateways.values() {
            self.class(gateway);
            let mut n_serving = 0;
            let n_errors = self.findings.count(Level::Error);
            for n in 0..gateway.listeners.len() {
                let served = self.listener(gateway, n);
                n_serving += usize::from(served);
                if served {
                    let meta = &gateway.meta;
                    self.serving.insert((meta.namespace.clone(), meta.name.clone(), n));
                }
            }
            let id = gateway.meta.id();
            let is_told = objects.broken.contains(&id) || self.findings.count(Level::Error) > n_errors;
            if n_serving == 0 && !is_told {
                let message = "none of its listeners can be served";
                self.findings.tell(Level::Error, gateway.meta.place, &id, message);
            }
            let all = n_serving == gateway.listeners.len();
            let reason = match (objects.broken.contains(&id), all) {
                (true, _) => "Invalid",
                (false, true) => "Accepted",
                (false, false) => "ListenersNotValid",
            };
            self.condition(&id, "", "Accepted", reason);
            self.condition(&id, "", "Programmed", if n_serving > 0 { "Programmed" } else { "Invalid" });
        }
        self.tell_shared_ports();
        for class in objects.classes.values() {
            let id = class.meta.id();
            let is_ours = class.controller.value == CONTROLLER;
            self.condition(&id, "", "Accepted", if is_ours { "Accepted" } else { "Pending" });
        }
    }

    /// Gateways have an address each in a cluster, and one for all here.
    fn tell_shared_ports(&mut self) {
        let objects = self.objects;
        let mut first: BTreeMap<u16, &Gateway> = BTreeMap::new();
        for (namespace, name, n) in self.serving.clone() {
            let Some(gateway) = objects.gateways.get(&(namespace, name)) else { continue };
            let listener = &gateway.listeners[n];
            let other = *first.entry(listener.port).or_insert(gateway);
            if !std::ptr::eq(other, gateway) {
                let message = format!(
                    "{}: port {} is that of {}, too; where both have one address, one needs another port",
                    listener.path,
                    listener.port,
                    other.meta.id()
                );
                self.findings.tell(Level::Warning, gateway.meta.at(listener.at), &gateway.meta.id(), message);
            }
        }
    }

    fn class(&mut self, gateway: &Gateway) {
        let id = gateway.meta.id();
        let place = gateway.meta.at(gateway.class.at);
        let name = &gateway.class.value;
        match self.objects.classes.get(&(String::new(), name.clone())) {
            None => {
                let message =
                    format!("spec.gatewayClassName: GatewayClass {name} is not given; it is not needed here");
                self.findings.tell(Level::Notice, place, &id, message);
            }
            Some(class) if class.controller.value != CONTROLLER => {
                let controller = &class.controller.value;
                let message = format!(
                    "spec.gatewayClassName: GatewayClass {name} belongs to the controller {controller}; the gateway is \
                     taken all the same"
                );
                self.findings.tell(Level::Warning, place, &id, message);
            }
            Some(_) => {}
        }
    }

    /// Whether a listener can be served.
    fn listener(&mut self, gateway: &Gateway, n: usize) -> bool {
        let (id, listener) = (gateway.meta.id(), &gateway.listeners[n]);
        let place = gateway.meta.at(listener.at);
        let parent = format!("listener {}", listener.name);
        if !["HTTP", "HTTPS"].contains(&listener.protocol.as_str()) {
            let message =
                format!("{}: {} is not served here; listener skipped", listener.path, listener.protocol);
            self.findings.tell(Level::Warning, place, &id, message);
            self.condition(&id, &parent, "Accepted", "UnsupportedProtocol");
            return false;
        }
        let others = || {
            gateway.listeners.iter().enumerate().filter(|(m, other)| *m != n && other.port == listener.port)
        };
        let is_other_protocol = |other: &Listener| {
            ["HTTP", "HTTPS"].contains(&other.protocol.as_str()) && other.protocol != listener.protocol
        };
        let protocol = others().find(|(_, other)| is_other_protocol(other));
        let host = others()
            .find(|(_, other)| other.protocol == listener.protocol && other.hostname == listener.hostname);
        for (found, reason, what) in [
            (protocol, "ProtocolConflict", "another protocol on the same port"),
            (host, "HostnameConflict", "the same port, protocol and hostname"),
        ] {
            let Some((m, other)) = found else { continue };
            // One message for both.
            if m < n {
                let message =
                    format!("{}: listener `{}` has {what}; change one of them", listener.path, other.name);
                self.findings.tell(Level::Error, place, &id, message);
            }
            self.condition(&id, &parent, "Conflicted", reason);
            return false;
        }
        let mut reason = "ResolvedRefs";
        let is_tls = listener.protocol == "HTTPS";
        for certificate in listener.certificates.iter().filter(|_| is_tls) {
            if let Err((why, message)) = self.certificate(gateway, certificate) {
                let message = format!("{}: {message}; the listener is left out", certificate.path);
                self.findings.tell(Level::Degraded, gateway.meta.at(certificate.at), &id, message);
                reason = why;
            }
        }
        let has_certificate = !is_tls || !listener.certificates.is_empty();
        self.condition(&id, &parent, "ResolvedRefs", reason);
        reason == "ResolvedRefs" && has_certificate
    }

    fn certificate(&mut self, gateway: &Gateway, to: &CertificateRef) -> Result<(), (&'static str, String)> {
        let namespace = to.namespace.as_ref().unwrap_or(&gateway.meta.namespace);
        let from = Referrer::of(&gateway.meta);
        self.permit(from, ("", "Secret"), (namespace, &to.name))
            .map_err(|broken| (broken.reason, broken.message))?;
        let invalid = |message: String| ("InvalidCertificateRef", message);
        let secret = self.objects.secrets.get(&(namespace.clone(), to.name.clone()));
        let secret =
            secret.ok_or_else(|| invalid(format!("Secret {namespace}/{} not found; add it", to.name)))?;
        let (certificate, ends) = secrets::certificate(secret)
            .map_err(|why| invalid(format!("Secret {namespace}/{}: {why}", to.name)))?;
        self.topology.certificates.insert((namespace.clone(), to.name.clone()), certificate);
        if let Some(ends) = ends {
            self.expiries.insert(secret.meta.id(), (secret.meta.place, ends));
        }
        Ok(())
    }
}
