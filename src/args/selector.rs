//! What chooses pods without a pool: [`LabelSelector`], [`TargetPorts`], and the pool's name that stands for them.
//!
//! The API reads a selector when it is first asked; reading it here as well tells a mistake at the start.

use crate::config::problem::shown;
use crate::discovery::index::endpoints::MAX_TARGET_PORTS;

/// A label selector, as Kubernetes writes it: `app=vllm,env in (prod,dev),!canary`. Empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(pub String);

impl LabelSelector {
    /// Reads it, or says which requirement is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        for requirement in requirements(text.trim())? {
            if !is_requirement(requirement.trim()) {
                let wanted = "key=value, key!=value, key in (a,b), key notin (a,b), key or !key";
                return Err(format!("{} is no requirement: expected {wanted}", shown(requirement)));
            }
        }
        Ok(Self(text.trim().to_owned()))
    }
}

/// The parts between commas that are not in brackets.
fn requirements(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' if inside => return Err("a bracket in a bracket".to_owned()),
            ')' if !inside => return Err("a bracket is closed that was not opened".to_owned()),
            '(' | ')' => inside = !inside,
            ',' if !inside => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("a bracket is not closed".to_owned());
    }
    if !text.is_empty() {
        parts.push(&text[begin..]);
    }
    Ok(parts)
}

fn is_requirement(text: &str) -> bool {
    if let Some(key) = text.strip_prefix('!') {
        return is_key(key.trim());
    }
    if let Some((left, values)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let mut words = left.split_whitespace();
        let (key, operator) = (words.next().unwrap_or_default(), words.next());
        return is_key(key)
            && matches!(operator, Some("in" | "notin"))
            && words.next().is_none()
            && !values.trim().is_empty()
            && values.split(',').all(|value| is_value(value.trim()));
    }
    let pair = text.split_once("!=").or_else(|| text.split_once("==")).or_else(|| text.split_once('='));
    match pair {
        Some((key, value)) => is_key(key.trim()) && is_value(value.trim()),
        None => is_key(text),
    }
}

/// `name` or `domain/name`.
fn is_key(text: &str) -> bool {
    let (domain, name) = text.split_once('/').unwrap_or(("x", text));
    let dns = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    !domain.is_empty() && domain.len() <= 253 && domain.chars().all(dns) && !name.is_empty() && is_value(name)
}

fn is_value(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edges = [text.chars().next(), text.chars().next_back()];
    text.len() <= 63
        && text.chars().all(inner)
        && edges.into_iter().flatten().all(|c| c.is_ascii_alphanumeric())
}

/// Ports that requests go to: 1 to 8 of them, without repetition. None for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetPorts(pub Vec<u16>);

impl TargetPorts {
    /// Reads a list with commas.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut ports = Vec::new();
        for word in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            let port = word.parse().ok().filter(|&port: &u16| port != 0);
            let port = port.ok_or_else(|| format!("{}: expected a port from 1 to 65535", shown(word)))?;
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        if ports.len() > MAX_TARGET_PORTS {
            return Err(format!("expected at most {MAX_TARGET_PORTS} ports, found {}", ports.len()));
        }
        Ok(Self(ports))
    }
}

/// What a pool that is only a selector is called: the Deployment of the pod named `pod`, as later versions have it.
pub(super) fn pool_name(pod: &str) -> String {
    let suffix =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let mut parts = pod.rsplitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(pod_part), Some(set_part), Some(deployment))
            if suffix(pod_part) && suffix(set_part) && !deployment.is_empty() =>
        {
            deployment.to_owned()
        }
        _ if pod.is_empty() => "epp".to_owned(),
        _ => pod.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_kubernetes_reads_them() {
        for text in [
            "",
            " ",
            "app=vllm",
            "app==vllm , env!=dev",
            "a.example.com/b-c_d.e=F",
            "env in (prod, dev),tier notin (x)",
            "gpu",
            "!canary, gpu",
            "app=",
        ] {
            assert_eq!(LabelSelector::parse(text), Ok(LabelSelector(text.trim().to_owned())), "{text:?}");
        }
        for (text, said) in [
            ("app=vllm,", "`` is no requirement"),
            ("=x", "`=x` is no requirement"),
            ("a b", "`a b` is no requirement"),
            ("app=a=b", "`app=a=b` is no requirement"),
            ("app=-x", "`app=-x` is no requirement"),
            ("env in (a", "a bracket is not closed"),
            ("env in a)", "a bracket is closed that was not opened"),
            ("env in ((a))", "a bracket in a bracket"),
            ("env on (a)", "`env on (a)` is no requirement"),
            ("env in ()", "`env in ()` is no requirement"),
            ("/x=y", "`/x=y` is no requirement"),
            ("A/x=y", "`A/x=y` is no requirement"),
        ] {
            let error = LabelSelector::parse(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn ports_are_one_to_eight() {
        for (text, want) in [
            ("", &[][..]),
            ("8000", &[8000]),
            ("8000, 8001,8000", &[8000, 8001]),
            ("1,2,3,4,5,6,7,8,1", &[1, 2, 3, 4, 5, 6, 7, 8]),
        ] {
            assert_eq!(TargetPorts::parse(text), Ok(TargetPorts(want.to_vec())), "{text:?}");
        }
        for text in ["0", "x", "65536", "8000,", "1,2,3,4,5,6,7,8,9", "-1"] {
            assert!(TargetPorts::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_pool_without_an_object_is_called_like_the_deployment() {
        for (pod, want) in [
            ("my-epp-5d9c7b8f6d-x2x4z", "my-epp"),
            ("epp-1-a", "epp"),
            ("epp-a", "epp-a"),
            ("-a-b", "-a-b"),
            ("Epp-A-b", "Epp-A-b"),
            ("", "epp"),
        ] {
            assert_eq!(pool_name(pod), want, "{pod}");
        }
    }
}
