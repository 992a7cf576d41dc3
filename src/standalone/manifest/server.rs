//! What a model server's command line says: [`Server`].
//!
//! Flags of vLLM and of simulators that take the same. A line for a shell is taken apart at its blanks.

/// Which models are served, and on which port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// The models, adapters last; none where nothing says it.
    pub models: Vec<String>,
    /// The port.
    pub port: Option<u16>,
}

impl Server {
    /// Reads command and arguments; `variables` are those of the container.
    pub fn read(words: &[&str], variables: &[(String, String)]) -> Self {
        let words: Vec<String> = flatten(words).iter().map(|word| expand(word, variables)).collect();
        let mut models = values(&words, "served-model-name");
        if models.is_empty() {
            models.extend(values(&words, "model").into_iter().next());
        }
        if models.is_empty() {
            let served = words.iter().position(|word| word == "serve").and_then(|at| words.get(at + 1));
            models.extend(served.filter(|word| !word.starts_with('-')).cloned());
        }
        let adapters = values(&words, "lora-modules");
        models.extend(adapters.iter().filter_map(|adapter| name_of_adapter(adapter)));
        let port = values(&words, "port").first().and_then(|port| port.parse().ok());
        Self { models, port }
    }
}

/// Words of a line for a shell; others as they are.
fn flatten(words: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for (n, word) in words.iter().enumerate() {
        let is_shell = words[0].ends_with("sh") && n >= 2 && words[n - 1].starts_with('-');
        if is_shell && word.contains(char::is_whitespace) {
            let inner = word.split_whitespace().filter(|word| *word != "\\");
            all.extend(inner.map(|word| word.trim_matches(['"', '\'']).to_owned()));
        } else {
            all.push((*word).to_owned());
        }
    }
    all
}

/// A word with the values of variables, as Kubernetes and shells write them.
fn expand(word: &str, variables: &[(String, String)]) -> String {
    let mut word = word.to_owned();
    for (name, value) in variables {
        for written in [format!("$({name})"), format!("${{{name}}}")] {
            word = word.replace(&written, value);
        }
        if word.strip_prefix('$') == Some(name) {
            word.clone_from(value);
        }
    }
    word
}

/// What follows a flag: the text behind `=`, or the words up to the next flag.
fn values(words: &[String], name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (n, word) in words.iter().enumerate() {
        let Some(flag) = word.strip_prefix("--") else { continue };
        if let Some(value) = flag.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            found = vec![value.to_owned()];
        } else if flag == name {
            found = words[n + 1..].iter().take_while(|word| !word.starts_with("--")).cloned().collect();
        }
    }
    found
}

/// `name=path`, or an object with a `name`.
fn name_of_adapter(text: &str) -> Option<String> {
    if text.starts_with('{') {
        let adapter: serde_json::Value = serde_json::from_str(text).ok()?;
        return adapter["name"].as_str().map(str::to_owned);
    }
    text.split_once('=').map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_name_models_and_port() {
        let variables = [("MODEL".to_owned(), "org/m".to_owned())];
        for (words, models, port) in [
            (&["--model", "org/m", "--port", "8200"][..], &["org/m"][..], Some(8200)),
            (&["--model=org/m", "--port=8200"], &["org/m"], Some(8200)),
            (&["--model", "org/m", "--served-model-name", "a", "b"], &["a", "b"], None),
            (&["--served-model-name=a", "--model", "org/m"], &["a"], None),
            (&["vllm", "serve", "org/m", "--port", "80"], &["org/m"], Some(80)),
            (&["vllm", "serve", "--model", "$(MODEL)"], &["org/m"], None),
            (&["/bin/sh", "-c", "exec vllm serve $MODEL --port \"8000\""], &["org/m"], Some(8000)),
            (&["sh", "-c", "vllm serve ${MODEL} \\\n --served-model-name x"], &["x"], None),
            (&["--model", "m", "--lora-modules", "{\"name\": \"l\"}", "k=/p", "--x"], &["m", "l", "k"], None),
            (&["--port", "many"], &[], None),
            (&[], &[], None),
        ] {
            let found = Server::read(words, &variables);
            let models = models.iter().map(|&model| model.to_owned()).collect();
            assert_eq!(found, Server { models, port }, "{words:?}");
        }
    }
}
