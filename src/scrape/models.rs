//! The list of models of the `OpenAI` API (`GET /v1/models`) → their names. Entry point: [`read`]. Pure.

use serde::Deserialize;

/// Most models of one server that are kept, base models and adapters.
const MAX_MODELS: usize = 1024;

/// Longest name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 256;

#[derive(Deserialize)]
struct List {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// The names, sorted, each once; `None` if it is no such list. A server without models has an empty one.
pub(super) fn read(page: &[u8]) -> Option<Vec<String>> {
    let List { data } = serde_json::from_slice(page).ok()?;
    let names = data.into_iter().map(|model| model.id);
    let mut names: Vec<_> = names.filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len())).collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(MAX_MODELS);
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_off_lists_and_nothing_else() {
        let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for (page, want) in [
            (
                r#"{"object":"list","data":[{"id":"b","object":"model"},{"id":"a","parent":"b"}]}"#,
                names(&["a", "b"]),
            ),
            (r#"{"data":[{"id":"a"},{"id":"a"},{"id":""}]}"#, names(&["a"])),
            (r#"{"data":[]}"#, names(&[])),
            (&format!(r#"{{"data":[{{"id":"{long}"}}]}}"#), names(&[])),
            (r#"{"data":[{"name":"a"}]}"#, None),
            (r#"{"models":[]}"#, None),
            (r#"[{"id":"a"}]"#, None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(read(page.as_bytes()), want, "{page}");
        }
        let entries: Vec<_> = (0..=MAX_MODELS).map(|n| format!(r#"{{"id":"{n}"}}"#)).collect();
        let page = format!(r#"{{"data":[{}]}}"#, entries.join(","));
        assert_eq!(read(page.as_bytes()).map(|names| names.len()), Some(MAX_MODELS));
    }
}
