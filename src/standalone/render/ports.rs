//! On which ports listeners are here: [`PortMap`].

use std::collections::BTreeMap;

/// What is added to ports that only root may have.
const SHIFT: u16 = 8000;

/// Ports of listeners → ports here. What is not named stays as it is, and below 1024 becomes 8000 more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortMap {
    /// By gateway (`namespace/name`; empty for all) and port.
    named: BTreeMap<(String, u16), u16>,
}

impl PortMap {
    /// Adds `PORT=PORT`, or `NAMESPACE/GATEWAY:PORT=PORT`; the error says what was expected.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let expected = || format!("`{text}`: expected PORT=PORT, or NAMESPACE/GATEWAY:PORT=PORT");
        let (from, to) = text.split_once('=').ok_or_else(expected)?;
        let (gateway, from) = from.rsplit_once(':').unwrap_or(("", from));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(expected);
        if !gateway.is_empty() && !gateway.contains('/') {
            return Err(expected());
        }
        if self.named.insert((gateway.to_owned(), port(from)?), port(to)?).is_some() {
            return Err(format!("`{text}`: the port is mapped twice"));
        }
        Ok(())
    }

    /// The port here of a gateway's port.
    pub fn port(&self, gateway: &str, port: u16) -> u16 {
        let named = |gateway: &str| self.named.get(&(gateway.to_owned(), port)).copied();
        let usual = if port < 1024 { port + SHIFT } else { port };
        named(gateway).or_else(|| named("")).unwrap_or(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_below_1024_are_shifted_unless_something_else_is_said() {
        let mut ports = PortMap::default();
        for text in ["443=1443", "default/b:80=8081", "default/b:9000=9001"] {
            ports.add(text).unwrap();
        }
        for (gateway, port, want) in [
            ("default/a", 80, 8080),
            ("default/a", 443, 1443),
            ("default/a", 1024, 1024),
            ("default/a", 9000, 9000),
            ("default/b", 80, 8081),
            ("default/b", 443, 1443),
            ("default/b", 9000, 9001),
        ] {
            assert_eq!(ports.port(gateway, port), want, "{gateway} {port}");
        }
        for text in ["", "80", "80=", "=80", "80=0", "b:80=81", "x/y:=1", "80=65536", "443=1444"] {
            assert!(ports.add(text).is_err(), "{text}");
        }
    }
}
