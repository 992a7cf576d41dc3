//! Reads the model of a request and nothing else, for those who route by it. Entry points: [`model_of`], and
//! [`model_of_beginning`] for a body of which only the beginning was seen.

use super::envelope::{self, Members};
use super::json::{Scanner, SyntaxError};

/// The string `model` of a body that is one JSON object; of duplicate keys the last wins, as in the model servers.
pub fn model_of(body: &[u8]) -> Option<String> {
    read(body, true)
}

/// The same of a body that breaks off, if the last one came whole.
pub fn model_of_beginning(body: &[u8]) -> Option<String> {
    read(body, false)
}

fn read(body: &[u8], whole: bool) -> Option<String> {
    envelope::read_bytes(body, whole, &mut Nothing).ok()?.model
}

/// Nobody asks for more.
struct Nothing;

impl Members for Nothing {
    fn member(&mut self, _: &mut Scanner<'_>, _: &str) -> Result<bool, SyntaxError> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use epp_framework::parsing::RequestBody;

    use super::*;
    use crate::parser::openai;
    use crate::testing::built;

    #[test]
    fn the_model_is_read_and_nothing_else_is_asked_for() {
        for (body, want) in [
            (r#"{"model":"m"}"#, Some("m")),
            ("\n{ \"messages\" : 7 , \"model\" : \"a\\/b\" }", Some("a/b")),
            (r#"{"model":"first","mod\u0065l":"last"}"#, Some("last")),
            (r#"{"model":"first","model":7}"#, None),
            (r#"{"x":{"model":"inner"}}"#, None),
            (r#"{"x":"\"model\":\"text\""}"#, None),
            (r#"{"model":""}"#, Some("")),
            (r#"{"model":null}"#, None),
            (r#"{"model":"\ud800"}"#, Some("\u{fffd}")),
            (r#"["model","m"]"#, None),
            (r#"{"model":"m"} {}"#, None),
            (r#"{"model":"m""#, None),
            ("model=m", None),
            ("", None),
        ] {
            assert_eq!(model_of(body.as_bytes()).as_deref(), want, "{body}");
        }
        assert_eq!(model_of(b"{\"model\":\"m\",\"x\":\"\xff\"}"), None, "no UTF-8");
    }

    #[test]
    fn a_beginning_tells_a_model_that_came_whole() {
        for (body, want) in [
            (r#"{"model":"m","messages":[{"role"#, Some("m")),
            (r#"{"model":"m""#, Some("m")),
            (r#"{"model":"m"#, None),
            (r#"{"messages":[{"role":"user"},"#, None),
            (r#"{"model":"first","model":"la"#, None),
            ("{", None),
            ("", None),
            ("model=m", None),
        ] {
            assert_eq!(model_of_beginning(body.as_bytes()).as_deref(), want, "{body}");
        }
        assert_eq!(model_of_beginning(b"{\"model\":\"m\",\"x\":\"\xc3").as_deref(), Some("m"));
    }

    proptest! {
        /// Whatever is routed by its model is read with the same one by the picker.
        #[test]
        fn the_picker_reads_the_same_model(picks in prop::collection::vec(0..8usize, 0..6), at in any::<usize>()) {
            let members = [
                r#""model":"a""#, r#""model" : "b\u00e9""#, r#""model":3"#, r#""prompt":"p""#, r#""x":{"model":"c"}"#,
                r#""mode":"d""#, r#""x":[1,"\"model\":"]"#, r#""model":"\ud800""#,
            ];
            let members: Vec<_> = picks.into_iter().map(|pick| members[pick]).chain([r#""prompt":"q""#]).collect();
            let body = format!("{{{}}}", members.join(","));
            let bytes = body.clone().into();
            let parser = built(&openai::TYPE, "{}").parser.unwrap();
            let picked = parser.parse(&RequestBody { path: "", bytes: &bytes, whole: true }).unwrap().model;
            prop_assert_eq!(model_of(body.as_bytes()), picked.clone(), "{}", body);
            prop_assert_eq!(model_of_beginning(body.as_bytes()), picked, "{}", body);
            model_of_beginning(&body.as_bytes()[..at % (body.len() + 1)]);
        }
    }
}
