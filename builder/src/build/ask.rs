//! Questions to the person at the terminal.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
};

/// Who answers questions.
#[derive(Debug)]
pub enum Asker {
    /// Whoever sits at the controlling terminal, wherever standard input and output go.
    Person(BufReader<File>),
    /// Nobody.
    Nobody(Silence),
}

/// Why nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// Questions are off.
    Off,
    /// There is no terminal.
    NoTerminal,
}

/// One of the answers to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The word to type; its first letters will do.
    pub word: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

impl Asker {
    /// The person at the terminal, if questions are on and there is one.
    pub fn new(questions: bool) -> Self {
        if !questions {
            return Self::Nobody(Silence::Off);
        }
        match File::options().read(true).write(true).open("/dev/tty") {
            Ok(terminal) => Self::Person(BufReader::new(terminal)),
            Err(_) => Self::Nobody(Silence::NoTerminal),
        }
    }

    /// Shows the choices until one is taken. None if nobody answers.
    pub fn choose(&mut self, question: &str, choices: &[Choice]) -> Option<&'static str> {
        let Self::Person(terminal) = self else { return None };
        let mut text = format!("\n{question}\n");
        for choice in choices {
            text.push_str(&format!("  {:<10} {}\n", choice.word, choice.meaning));
        }
        loop {
            match ask(terminal, &format!("{text}> ")) {
                Ok(Some(answer)) => match understand(&answer, choices) {
                    Some(word) => return Some(word),
                    None => text.clear(),
                },
                // The terminal is gone: so is the person.
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The terminal, for a shell to use.
    pub fn terminal(&self) -> Option<io::Result<File>> {
        match self {
            Self::Person(terminal) => Some(terminal.get_ref().try_clone()),
            Self::Nobody(_) => None,
        }
    }
}

fn ask(terminal: &mut BufReader<File>, text: &str) -> io::Result<Option<String>> {
    terminal.get_mut().write_all(text.as_bytes())?;
    let mut line = String::new();
    let read = terminal.read_line(&mut line)?;
    Ok((read > 0).then_some(line))
}

/// The only choice that begins with what was typed.
fn understand(answer: &str, choices: &[Choice]) -> Option<&'static str> {
    let answer = answer.trim().to_lowercase();
    if let Some(exact) = choices.iter().find(|choice| choice.word == answer) {
        return Some(exact.word);
    }
    let mut fitting = choices.iter().filter(|choice| choice.word.starts_with(&answer));
    match (answer.is_empty(), fitting.next(), fitting.next()) {
        (false, Some(only), None) => Some(only.word),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_word_will_do_where_it_is_the_only_one() {
        let choices = ["retry", "resume", "shell"].map(|word| Choice { word, meaning: "" });
        let cases = [
            ("shell", Some("shell")),
            (" S\n", Some("shell")),
            ("ret", Some("retry")),
            ("re", None),
            ("", None),
            ("x", None),
        ];
        for (typed, expected) in cases {
            assert_eq!(understand(typed, &choices), expected, "{typed:?}");
        }
        let exact = ["no", "none"].map(|word| Choice { word, meaning: "" });
        assert_eq!(understand("no", &exact), Some("no"));
    }
}
