//! What must hold for whatever a reader of files has to tell: [`check`].

use epp::config::problem::Problem;

/// Most problems that are told of one file: a hundred, and one that counts the rest.
const MAX_PROBLEMS: usize = 101;

/// Longest message, in characters: some values of at most eighty, and a list of what is known.
const MAX_MESSAGE: usize = 1500;

/// Checks that `problems` are few, in order, printable, and lie within `text`.
pub(crate) fn check(text: &str, problems: &[Problem]) {
    assert!(problems.len() <= MAX_PROBLEMS, "{} problems", problems.len());
    assert!(problems.is_sorted_by_key(|problem| (problem.line, problem.column)), "not in file order");
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in problems {
        let length = problem.message.chars().count();
        assert!((1..=MAX_MESSAGE).contains(&length), "{length} characters: {problem}");
        assert!(!problem.message.chars().any(char::is_control), "not printable: {problem:?}");
        let line = usize::try_from(problem.line).ok().and_then(|line| lines.get(line.checked_sub(1)?));
        let columns = line.map(|line| line.chars().count() + 1);
        let column = usize::try_from(problem.column).expect("a column fits");
        assert!(
            columns.is_some_and(|columns| (1..=columns).contains(&column)),
            "outside of the text: {problem}"
        );
    }
}
