//! Tests of what is made of Envoy's output; its texts are those of Envoy 1.40.

use super::*;

#[test]
fn bytes_become_lines_wherever_they_are_cut() {
    let text = "one\ntwo \r\n\nthr\u{fc}e\nlast";
    for size in 1..text.len() {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        for bytes in text.as_bytes().chunks(size) {
            lines.push(bytes, |line| told.push(line.to_owned()));
        }
        lines.end(|line| told.push(line.to_owned()));
        assert_eq!(told, ["one", "two", "thrüe", "last"], "{size}");
    }
}

#[test]
fn a_line_has_a_longest_length() {
    let (mut lines, mut told) = (Lines::default(), Vec::new());
    for _ in 0..1000 {
        lines.push(&[b'x'; 100], |_| unreachable!());
        assert!(lines.begun.capacity() <= 2 * MAX_LINE);
    }
    lines.push(b"\nnext\n", |line| told.push(line.len()));
    assert_eq!(told, [MAX_LINE, 4]);
}

#[test]
fn lines_are_read() {
    for (line, weight, component, said) in [
        ("[warning][config] a [b] c", Weight::Warning, "config", "a [b] c"),
        ("[critical][main] x", Weight::Error, "main", "x"),
        ("[info][main] x", Weight::Info, "main", "x"),
        ("[trace][http2] x", Weight::Debug, "http2", "x"),
        ("[loud][main] x", Weight::Warning, "", "[loud][main] x"),
        ("[warning] x", Weight::Warning, "", "[warning] x"),
        ("double free", Weight::Warning, "", "double free"),
    ] {
        assert_eq!(Line::read(line), Line { weight, component, said }, "{line}");
    }
}

#[test]
fn the_address_of_somebody_else_is_found() {
    for (line, want) in [
        (
            "[error][config] listener \\'s\\' failed to bind or apply socket options: cannot bind \
             \\'127.0.0.1:18977\\': Address already in use",
            Some("127.0.0.1:18977"),
        ),
        (
            "[critical][main] error `cannot bind '[::]:80': Address already in use` initializing config",
            Some("[::]:80"),
        ),
        ("[critical][main] error initializing configuration", None),
    ] {
        assert_eq!(address_in_use(["[info][main] x", line]).as_deref(), want, "{line}");
    }
}

#[test]
fn refusals_are_kept_with_their_reasons() {
    let words = Words::default();
    words.heard("[warning][config] Filesystem config update rejected: before");
    let mark = words.refused();
    assert_eq!(words.refusals_since(mark), [""; 0]);
    for line in [
        "[warning][upstream] cds: cluster \\'b\\' config rejected: x",
        "[warning][config] Filesystem config update rejected: Error adding/updating cluster(s) b: a\\n  field: \\'x\\'",
        "[warning][config] Filesystem config update failure: in /x/lds.yaml, yaml-cpp: error",
        "[info][config] Filesystem config update",
    ] {
        words.heard(line);
    }
    let why = ["Error adding/updating cluster(s) b: a field: 'x'", "in /x/lds.yaml, yaml-cpp: error"];
    assert_eq!(words.refusals_since(mark), why);
    assert_eq!(words.refusals_since(0).len(), 3);
}

#[test]
fn the_last_fifty_lines_of_a_life_are_kept() {
    let words = Words::default();
    for i in 0..60 {
        words.heard(&format!("line {i}"));
    }
    let last = words.last();
    assert_eq!((last.len(), &*last[0], &*last[49]), (50, "line 10", "line 59"));
    words.begin();
    assert_eq!(words.last(), [""; 0]);
}
