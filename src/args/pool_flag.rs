//! `--pool`, which may be given several times: [`PoolFlag`].

use std::path::PathBuf;

use crate::config::problem::{did_you_mean, shown};
use crate::pools::authority::Authority;

/// How the value is written.
const WANTED: &str =
    "NAMESPACE/NAME[,port=PORT][,authority=HOST[:PORT]][,config-file=FILE][,endpoints-file=FILE]";

/// What may follow the name.
const KEYS: [&str; 4] = ["port", "authority", "config-file", "endpoints-file"];

/// One of the pools that a process serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolFlag {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Port of an ext_proc service for it alone.
    pub port: Option<u16>,
    /// How else it is called than by its name and namespace.
    pub authorities: Vec<Authority>,
    /// Its configuration, if it has one of its own.
    pub config_file: Option<PathBuf>,
    /// Its endpoints, instead of a Kubernetes API.
    pub endpoints_file: Option<PathBuf>,
}

impl PoolFlag {
    /// Reads a value, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let full_name = parts.next().unwrap_or_default();
        let is_name = |name: &str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            !name.is_empty() && name.len() <= 253 && name.chars().all(plain)
        };
        let names = full_name.split_once('/').filter(|(namespace, name)| is_name(namespace) && is_name(name));
        let Some((namespace, name)) = names else {
            return Err(format!("expected {WANTED}, found {}", shown(text)));
        };
        let mut flag = Self { namespace: namespace.to_owned(), name: name.to_owned(), ..Self::default() };
        for part in parts {
            let Some((key, value)) = part.split_once('=').filter(|(_, value)| !value.is_empty()) else {
                return Err(format!("{}: expected key=value", shown(part)));
            };
            let twice = match key {
                "port" => {
                    let port = value.parse().map_err(|_| format!("{}: expected a port", shown(part)))?;
                    flag.port.replace(port).is_some()
                }
                "authority" => {
                    flag.authorities.push(Authority::parse(value)?);
                    false
                }
                "config-file" => flag.config_file.replace(value.into()).is_some(),
                "endpoints-file" => flag.endpoints_file.replace(value.into()).is_some(),
                _ => return Err(format!("unknown key {}{}", shown(key), did_you_mean(key, KEYS))),
            };
            if twice {
                return Err(format!("{} is given twice", shown(key)));
            }
        }
        Ok(flag)
    }

    /// Namespace and name, with `/` between them.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_a_name_and_options() {
        let plain = PoolFlag { namespace: "d".into(), name: "a".into(), ..PoolFlag::default() };
        assert_eq!(PoolFlag::parse("d/a"), Ok(plain.clone()));
        let text = "d/a,port=9012,authority=p.d.svc:1,config-file=/c=1.yaml,authority=q,endpoints-file=e";
        let want = PoolFlag {
            port: Some(9012),
            authorities: ["p.d:1", "q"].map(|text| Authority::parse(text).unwrap()).into(),
            config_file: Some("/c=1.yaml".into()),
            endpoints_file: Some("e".into()),
            ..plain
        };
        assert_eq!(PoolFlag::parse(text), Ok(want));
        for (text, said) in [
            ("", "expected NAMESPACE/NAME"),
            ("a", "expected NAMESPACE/NAME"),
            ("d/", "expected NAMESPACE/NAME"),
            ("d/a/b", "expected NAMESPACE/NAME"),
            ("d/A", "expected NAMESPACE/NAME"),
            ("d/a,", "expected key=value"),
            ("d/a,port", "expected key=value"),
            ("d/a,port=", "expected key=value"),
            ("d/a,port=x", "expected a port"),
            ("d/a,port=1,port=2", "`port` is given twice"),
            ("d/a,authority=a b", "expected a host"),
            ("d/a,prot=1", "unknown key `prot`, did you mean `port`?"),
        ] {
            let error = PoolFlag::parse(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
