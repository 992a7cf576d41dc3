//! What is taken out of files, and where it was.

use super::*;

/// Every document as `line:column value of its key x`.
fn read(name: &str, text: &str) -> (Vec<String>, Vec<String>) {
    let mut findings = Findings::default();
    let source = Source { name: name.to_owned(), text: text.to_owned() };
    let documents = documents(&[source], &mut findings);
    let documents = documents.iter().map(|document| {
        let Value::Map(entries) = &document.root.value else { panic!("{document:?}") };
        let (_, x) = entries.iter().find(|(key, _)| is_text(key, "x")).unwrap();
        format!("{}:{} {}", x.at.line, x.at.column, x.describe())
    });
    let findings = findings
        .sort()
        .iter()
        .map(|it| format!("{}:{} {} {}", it.place.at.line, it.place.at.column, it.level.word(), it.message));
    (documents.collect(), findings.collect())
}

#[test]
fn documents_have_the_places_of_their_file() {
    for (name, text, want) in [
        ("a.yaml", "x: 1\n", &["1:4 1"][..]),
        (
            "a.yaml",
            "# why\n---\nx: 1\n---\n# nothing\n---\n\nx: 2\n...\n---\nx: 3\n---\n",
            &["3:4 1", "8:4 2", "11:4 3"],
        ),
        ("a.yaml", "--- {x: 1}\n--- # two\nx: 2\n", &["1:9 1", "3:4 2"]),
        ("a.yaml", "%YAML 1.2\n---\nx: 1\n", &["3:4 1"]),
        ("a.json", "{\n\t\"x\": 1}", &["2:7 1"]),
        (
            "a.yaml",
            "apiVersion: v1\nkind: List\nitems:\n- x: 1\n- apiVersion: v1\n  kind: List\n  items: [{x: 2}]\n",
            &["4:6 1", "7:15 2"],
        ),
        ("a.yaml", "x: |\n  ---\n  y\n", &["2:3 the string `---\\ny\\n`"]),
        ("a.md", "# A\n\n```yaml\nx: 1\n---\nx: 2\n```\n\n```\nx: 3\n```\n", &["4:4 1", "6:4 2"]),
        ("a.md", "1. do\n\n   ```yml\n   x: 1\n   ```\n~~~yaml\nx: 2\n~~~\n", &["4:7 1", "7:4 2"]),
        (
            "a.txt",
            "```yaml\ncat <<EOF | kubectl apply -f -\nx: 1\n---\nx: 2\nEOF\n```\n",
            &["3:4 1", "5:4 2"],
        ),
        ("-", "```bash\nexport A=b\nkubectl apply -f - <<'END'\nx: 1\nEND\necho\n```\n", &["4:4 1"]),
    ] {
        let (documents, findings) = read(name, text);
        assert_eq!(documents, want, "{text}");
        assert_eq!(findings, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_broken_document_leaves_the_others() {
    let (documents, findings) = read("a.yaml", "x: 1\n---\nx: [\n---\nx: 3\n");
    assert_eq!(documents, ["1:4 1", "5:4 3"]);
    assert!(findings.len() == 1 && findings[0].contains(" error "), "{findings:?}");
    let deep = "[".repeat(40) + &"]".repeat(40);
    let definition = format!("kind: CustomResourceDefinition\nspec: {deep}\n---\nx: 4\n");
    assert_eq!(read("a.yaml", &definition), (vec!["4:4 4".to_owned()], Vec::new()));
    let (documents, findings) = read("a.md", "```yaml\nx: {{ v }}\n  y: 1\n```\n```yaml\nx: 3\n```\n");
    assert_eq!(documents, ["6:4 3"]);
    assert!(findings[0].contains("warning block skipped, it cannot be read: "), "{findings:?}");
}
