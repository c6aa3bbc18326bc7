//! The state of the menu, and what a key makes of it.

use std::path::PathBuf;

use super::{
    entries::{Action, Item, Question},
    job::{End, Job},
};
use crate::build::run::quoted;

/// A key, as far as the menu knows keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// One that writes.
    Char(char),
    /// Return.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// An arrow.
    Left,
    /// An arrow.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
    /// Ctrl and C.
    Interrupt,
}

/// What the screen has to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing but drawing.
    None,
    /// Starts gse inside the menu.
    Start(Vec<String>),
    /// Ends what runs inside.
    Stop,
    /// Runs gse in the terminal.
    Terminal(Vec<String>),
    /// Opens a file in the editor, and checks it after.
    Edit(PathBuf),
    /// Shows a page of the manual.
    Manual(&'static str, &'static str),
    /// Starts a shell.
    Shell,
    /// Ends the menu.
    Quit,
}

const KEYS: &str = "\
Up, Down, k, j        move
PgUp, PgDn, g, G      further; first, last
Enter, Right, l       choose
Esc, Left, h          back
/                     search; n goes on
q                     back, at last quits
?                     this help

While something runs, the same keys scroll its log, and q asks whether to stop it. What has failed, t runs again in the \
terminal, where it can ask.

Above the last line is always the command that a choice stands for: type it in a shell to do the same.";

/// A command of gse, as a shell reads it.
pub fn command(arguments: &[String]) -> String {
    let words = arguments.iter().map(|word| quoted(word));
    ["gse".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// A menu with its selected line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// The name of what was chosen to come here.
    pub title: String,
    /// Its lines.
    pub items: Vec<Item>,
    /// Counted from 0.
    pub selected: usize,
}

/// What lies over the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// A text of gse's own, from a line on.
    Text(String, usize),
    /// A search, as far as it is typed.
    Search(String),
    /// A question, and the answer as far as it is typed.
    Ask(Question, String),
    /// Whether gse is to run with these arguments.
    Sure(Vec<String>),
    /// A command that runs, or has run.
    Job(Box<Job>),
    /// Whether what runs is to be stopped.
    Stop(Box<Job>),
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// From the main menu to the one that is shown; never empty.
    pub levels: Vec<Level>,
    /// What lies over it.
    pub over: Option<Over>,
    /// What the last search was for.
    pub sought: String,
    /// Said about the host.
    pub host: String,
}

impl Model {
    /// The main menu.
    pub fn new(items: Vec<Item>, host: String) -> Self {
        let title = "Main menu".to_owned();
        let level = Level { title, items, selected: 0 };
        Self { levels: vec![level], over: None, sought: String::new(), host }
    }

    /// The menu that is shown.
    pub fn level(&self) -> Option<&Level> {
        self.levels.last()
    }

    /// The line that is selected.
    pub fn selected(&self) -> Option<&Item> {
        self.level().and_then(|level| level.items.get(level.selected))
    }

    /// The command line that the selected line stands for, empty if it stands for none.
    pub fn command_line(&self) -> String {
        match &self.over {
            Some(Over::Ask(question, answer)) => return command(&question.arguments(answer)),
            Some(Over::Sure(arguments)) => return command(arguments),
            _ => {}
        }
        match self.selected().map(|item| &item.action) {
            Some(Action::Edit(path)) => format!("$EDITOR {}", quoted(&path.to_string_lossy())),
            Some(Action::Manual(section, name)) => format!("man {section} {name}"),
            Some(Action::Shell) => "$SHELL".to_owned(),
            Some(action) => {
                let lines: Vec<String> = action.commands("…").iter().map(|c| command(c)).collect();
                lines.join(" && ")
            }
            None => String::new(),
        }
    }

    /// What a key does.
    pub fn update(&mut self, key: Key) -> Effect {
        match self.over.take() {
            None => self.in_menu(key),
            Some(Over::Text(text, top)) => self.in_text(text, top, key),
            Some(Over::Search(typed)) => self.in_search(typed, key),
            Some(Over::Ask(question, typed)) => self.in_question(question, typed, key),
            Some(Over::Sure(arguments)) if key == Key::Char('y') => self.start(arguments, None),
            Some(Over::Sure(_)) => Effect::None,
            Some(Over::Job(job)) => self.in_job(job, key),
            Some(Over::Stop(job)) => {
                let effect = if key == Key::Char('y') { Effect::Stop } else { Effect::None };
                self.over = Some(Over::Job(job));
                effect
            }
        }
    }

    fn in_menu(&mut self, key: Key) -> Effect {
        match key {
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::PageUp => self.step(-10),
            Key::PageDown => self.step(10),
            Key::Home | Key::Char('g') => self.step(isize::MIN),
            Key::End | Key::Char('G') => self.step(isize::MAX),
            Key::Enter | Key::Right | Key::Char('l') => return self.choose(),
            Key::Escape | Key::Left | Key::Backspace | Key::Char('h') => self.back(),
            Key::Char('q') if self.levels.len() > 1 => self.back(),
            Key::Char('q') | Key::Interrupt => return Effect::Quit,
            Key::Char('?') => self.say(KEYS),
            Key::Char('/') => self.over = Some(Over::Search(String::new())),
            Key::Char('n') => self.seek(&self.sought.clone(), 1),
            Key::Char(_) => {}
        }
        Effect::None
    }

    fn step(&mut self, by: isize) {
        if let Some(level) = self.levels.last_mut() {
            let last = level.items.len().saturating_sub(1);
            level.selected = level.selected.saturating_add_signed(by).min(last);
        }
    }

    fn back(&mut self) {
        if self.levels.len() > 1 {
            self.levels.pop();
        }
    }

    fn choose(&mut self) -> Effect {
        let Some(Item { label, action, .. }) = self.selected().cloned() else {
            return Effect::None;
        };
        match action {
            Action::Open(items) => {
                self.levels.push(Level { title: label, items, selected: 0 });
                Effect::None
            }
            Action::Run(arguments) => self.start(arguments, None),
            Action::Sure(arguments) => {
                self.over = Some(Over::Sure(arguments));
                Effect::None
            }
            Action::Preview(shows, does) => self.start(shows, Some(does)),
            Action::Terminal(arguments) => Effect::Terminal(arguments),
            Action::Ask(question) => {
                self.over = Some(Over::Ask(question, String::new()));
                Effect::None
            }
            Action::Edit(path) => Effect::Edit(path),
            Action::Manual(section, name) => Effect::Manual(section, name),
            Action::Text(text) => {
                self.over = Some(Over::Text(text.to_owned(), 0));
                Effect::None
            }
            Action::Shell => Effect::Shell,
            Action::Quit => Effect::Quit,
        }
    }

    /// What needs an editor or asks something cannot run inside.
    fn start(&mut self, arguments: Vec<String>, then: Option<Vec<String>>) -> Effect {
        let needs_terminal = |argument: &String| {
            argument.starts_with("--edit") || argument.starts_with("--time-warp")
        };
        if arguments.iter().any(needs_terminal) {
            return Effect::Terminal(arguments);
        }
        self.over = Some(Over::Job(Box::new(Job::new(arguments.clone(), then))));
        Effect::Start(arguments)
    }

    fn in_text(&mut self, text: String, top: usize, key: Key) -> Effect {
        let most = text.lines().count().saturating_sub(1);
        let to = match key {
            Key::Up | Key::Char('k') => top.saturating_sub(1),
            Key::Down | Key::Char('j') => (top + 1).min(most),
            Key::PageUp => top.saturating_sub(10),
            Key::PageDown | Key::Char(' ') => (top + 10).min(most),
            _ => return Effect::None,
        };
        self.over = Some(Over::Text(text, to));
        Effect::None
    }

    fn in_search(&mut self, mut typed: String, key: Key) -> Effect {
        match key {
            Key::Char(c) => typed.push(c),
            Key::Backspace => drop(typed.pop()),
            Key::Enter => {
                self.sought = typed;
                return Effect::None;
            }
            Key::Escape | Key::Interrupt => return Effect::None,
            _ => {}
        }
        self.seek(&typed, 0);
        self.over = Some(Over::Search(typed));
        Effect::None
    }

    /// Selects the first line from `after` lines below the selected one on that has `text` in it, around the end.
    fn seek(&mut self, text: &str, after: usize) {
        let Some(level) = self.levels.last_mut() else { return };
        let text = text.to_lowercase();
        let fits = |item: &Item| {
            item.label.to_lowercase().contains(&text) || item.about.to_lowercase().contains(&text)
        };
        let count = level.items.len();
        let order = (0..count).map(|i| (level.selected + after + i) % count.max(1));
        let found = order.into_iter().find(|at| level.items.get(*at).is_some_and(fits));
        level.selected = found.unwrap_or(level.selected);
    }

    fn in_question(&mut self, question: Question, mut typed: String, key: Key) -> Effect {
        match key {
            Key::Char(c) => typed.push(c),
            Key::Backspace => drop(typed.pop()),
            Key::Enter if !typed.trim().is_empty() => {
                return self.start(question.arguments(&typed), None);
            }
            Key::Escape | Key::Interrupt => return Effect::None,
            _ => {}
        }
        self.over = Some(Over::Ask(question, typed));
        Effect::None
    }

    fn in_job(&mut self, mut job: Box<Job>, key: Key) -> Effect {
        match key {
            Key::Up | Key::Char('k') => job.scroll(-1),
            Key::Down | Key::Char('j') => job.scroll(1),
            Key::PageUp => job.scroll(-10),
            Key::PageDown => job.scroll(10),
            Key::Home | Key::Char('g') => job.scroll(isize::MIN + 1),
            Key::End | Key::Char('G') => job.scroll(isize::MAX),
            Key::Char('y') if job.offer().is_some() => {
                return job.then.take().map_or(Effect::None, |then| self.start(then, None));
            }
            Key::Char('t') if matches!(job.end, Some(End::Failed(_))) => {
                return Effect::Terminal(job.arguments);
            }
            Key::Escape | Key::Char('q') | Key::Enter if job.end.is_some() => return Effect::None,
            Key::Escape | Key::Char('q') | Key::Interrupt => {
                self.over = Some(Over::Stop(job));
                return Effect::None;
            }
            _ => {}
        }
        self.over = Some(Over::Job(job));
        Effect::None
    }

    /// What runs inside has printed something.
    pub fn printed(&mut self, bytes: &[u8]) {
        if let Some(Over::Job(job) | Over::Stop(job)) = &mut self.over {
            job.print(bytes);
        }
    }

    /// What runs inside has ended.
    pub fn ended(&mut self, end: End) {
        self.over = match self.over.take() {
            Some(Over::Job(mut job) | Over::Stop(mut job)) => {
                job.ended(end);
                Some(Over::Job(job))
            }
            other => other,
        };
    }

    /// The menus may have changed: those that are shown are found again by their names.
    pub fn refresh(&mut self, items: Vec<Item>) {
        let mut now = Some(items);
        for level in &mut self.levels {
            // A menu that is gone stays as it was until it is left.
            let Some(items) = now.take() else { return };
            level.items = items;
            level.selected = level.selected.min(level.items.len().saturating_sub(1));
            now = match level.items.get(level.selected).map(|item| &item.action) {
                Some(Action::Open(items)) => Some(items.clone()),
                _ => None,
            };
        }
    }

    /// Something to say, until a key.
    pub fn say(&mut self, text: impl Into<String>) {
        self.over = Some(Over::Text(text.into(), 0));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
