//! Who a request comes from, as its headers say: [`SessionId`] and [`AgentId`], which producers leave on requests.
//!
//! Clients choose them, so they are bounded and never logged.

/// Longest id that is taken, in bytes.
const MAX_BYTES: usize = 256;

/// The session, or conversation, that a request belongs to.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId(String);

/// The agent that asks.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentId(String);

impl SessionId {
    /// The id in `text`, but for blanks around it; `None` if it is empty or longer than 256 bytes.
    pub fn of(text: &str) -> Option<Self> {
        taken(text).map(Self)
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AgentId {
    /// The id in `text`, but for blanks around it; `None` if it is empty or longer than 256 bytes.
    pub fn of(text: &str) -> Option<Self> {
        taken(text).map(Self)
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn taken(text: &str) -> Option<String> {
    Some(text.trim()).filter(|text| (1..=MAX_BYTES).contains(&text.len())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_bounded() {
        let (longest, too_long) = ("a".repeat(256), "a".repeat(257));
        for (text, want) in [
            ("a b", Some("a b")),
            (" a\t", Some("a")),
            ("", None),
            (" ", None),
            (&longest, Some(&*longest)),
            (&too_long, None),
        ] {
            assert_eq!(SessionId::of(text).as_ref().map(SessionId::as_str), want);
            assert_eq!(AgentId::of(text).as_ref().map(AgentId::as_str), want);
        }
    }
}
