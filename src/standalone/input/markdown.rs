//! Markdown → the YAML in its fenced blocks. Of a shell's lines only the here-documents that kubectl is given count.

use super::Block;

/// Whether a text has fenced blocks.
pub(super) fn has_fence(text: &str) -> bool {
    text.lines().any(|line| Fence::opened_by(line).is_some())
}

/// A block's first line.
struct Fence<'a> {
    indentation: usize,
    mark: char,
    length: usize,
    language: &'a str,
}

impl<'a> Fence<'a> {
    fn opened_by(line: &'a str) -> Option<Self> {
        let rest = line.trim_start_matches(' ');
        let mark = rest.chars().next().filter(|mark| ['`', '~'].contains(mark))?;
        let language = rest.trim_start_matches(mark);
        let length = rest.len() - language.len();
        let words = language.trim();
        let fence = Self {
            indentation: line.len() - rest.len(),
            mark,
            length,
            language: words.split([' ', '{', ',']).next().unwrap_or_default(),
        };
        (length >= 3 && !words.contains('`')).then_some(fence)
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let line = line.trim();
        line.len() >= self.length && line.chars().all(|c| c == self.mark)
    }

    /// Without as much of its indentation as the fence has.
    fn content<'l>(&self, line: &'l str) -> &'l str {
        let blank = line.bytes().take(self.indentation).take_while(|&byte| byte == b' ').count();
        &line[blank..]
    }

    fn block<'t>(&self, lines: u32) -> Block<'t> {
        Block {
            text: String::new().into(),
            lines,
            columns: u32::try_from(self.indentation).unwrap_or(u32::MAX),
        }
    }
}

/// What a fenced block holds.
#[derive(Clone, Copy, PartialEq)]
enum Language {
    Yaml,
    Shell,
    Other,
}

impl Language {
    fn of(fence: &Fence<'_>) -> Self {
        match fence.language.to_lowercase().as_str() {
            "yaml" | "yml" | "json" => Self::Yaml,
            "bash" | "sh" | "shell" | "console" | "zsh" => Self::Shell,
            _ => Self::Other,
        }
    }
}

/// The blocks that hold YAML, in order.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut open: Option<(Fence<'_>, Language)> = None;
    let mut here: Option<&str> = None;
    // Whether the last block takes more lines.
    let mut is_taking = false;
    for (number, line) in (0..).zip(text.lines()) {
        let Some((fence, language)) = &open else {
            open = Fence::opened_by(line).map(|fence| {
                let language = Language::of(&fence);
                (fence, language)
            });
            is_taking = false;
            continue;
        };
        if fence.is_closed_by(line) {
            (open, here) = (None, None);
            continue;
        }
        let content = fence.content(line);
        if here.is_some_and(|end| content.trim() == end) {
            (here, is_taking) = (None, false);
        } else if here.is_none()
            && *language != Language::Other
            && let Some(end) = here_document(content)
        {
            (here, is_taking) = (Some(end), false);
        } else if *language == Language::Yaml || here.is_some() {
            if !is_taking {
                blocks.push(fence.block(number));
                is_taking = true;
            }
            if let Some(block) = blocks.last_mut() {
                let text = block.text.to_mut();
                text.push_str(content);
                text.push('\n');
            }
        }
    }
    blocks
}

/// The word that ends what kubectl is given: `cat <<EOF | kubectl apply -f -`.
fn here_document(line: &str) -> Option<&str> {
    if !line.contains("kubectl") {
        return None;
    }
    let (_, word) = line.split_once("<<")?;
    let word = word.trim_start_matches('-').split_whitespace().next()?;
    Some(word.trim_matches(['\'', '"', '|', ';'])).filter(|word| !word.is_empty())
}
