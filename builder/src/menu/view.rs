//! Draws the menu.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Gauge, List, ListItem, ListState, Paragraph, Wrap},
};

use super::{
    entries::Item,
    job::{End, Job},
    model::{self, Model, Over},
};

/// How things look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    colours: bool,
}

impl Palette {
    /// Without colours if `NO_COLOR` is set and not empty (<https://no-color.org>).
    pub fn new(no_color: Option<&str>) -> Self {
        Self { colours: no_color.is_none_or(str::is_empty) }
    }

    fn title(self) -> Style {
        self.with(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn aside(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn command(self) -> Style {
        self.with(Color::Green)
    }

    fn bad(self) -> Style {
        self.with(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn with(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }
}

/// Draws all of it.
pub fn draw(model: &Model, palette: Palette, frame: &mut Frame<'_>) {
    let width = frame.area().width;
    let about = model.selected().map(|item| item.about.clone()).unwrap_or_default();
    let line = model.command_line();
    let line = if line.is_empty() { line } else { format!("$ {line}") };
    let [top, body, below, command, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(rows(&about, width)),
        Constraint::Length(rows(&line, width)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    title(model, palette, frame, top);
    list(model, palette, frame, body);
    frame.render_widget(Paragraph::new(about).wrap(Wrap { trim: true }), below);
    let line = Paragraph::new(line).style(palette.command()).wrap(Wrap { trim: true });
    frame.render_widget(line, command);
    frame.render_widget(Line::from(hint(model)), keys);
    match &model.over {
        None | Some(Over::Search(_)) => {}
        Some(Over::Text(text, top)) => popup(frame, body, "", text, *top),
        Some(Over::Ask(question, typed)) => {
            popup(frame, body, question.prompt, &format!("{typed}_"), 0);
        }
        Some(Over::Sure(arguments)) => {
            let text = format!("{}\n\nIs this to be done? y/n", model::command(arguments));
            popup(frame, body, "", &text, 0);
        }
        Some(Over::Job(job) | Over::Stop(job)) => {
            show_job(job, palette, frame, body.union(below).union(command));
        }
    }
}

/// How many rows a text gets, one to three: what a narrow terminal has to break is read all the same.
fn rows(text: &str, width: u16) -> u16 {
    broken(text, width).len().clamp(1, 3) as u16
}

/// A line in rows of at most `width` letters, broken between words where that is possible.
fn broken(line: &str, width: u16) -> Vec<String> {
    let width = usize::from(width.max(1));
    let mut letters: &[char] = &line.chars().collect::<Vec<char>>();
    let mut rows = Vec::new();
    while letters.len() > width {
        let row = letters.get(..=width).unwrap_or(letters);
        // Not in the blanks that a line begins with.
        let has_word = |at: &usize| row.iter().take(*at).any(|c| *c != ' ');
        let space = row.iter().rposition(|c| *c == ' ').filter(has_word);
        let (row, rest) = letters.split_at(space.unwrap_or(width));
        rows.push(row.iter().collect());
        letters = if space.is_some() { rest.get(1..).unwrap_or_default() } else { rest };
    }
    rows.push(letters.iter().collect());
    rows
}

fn title(model: &Model, palette: Palette, frame: &mut Frame<'_>, area: Rect) {
    let titles: Vec<&str> = model.levels.iter().map(|level| level.title.as_str()).collect();
    let fits = |text: &str| text.chars().count() <= usize::from(area.width);
    let whole = format!("GSE {}  {}", env!("CARGO_PKG_VERSION"), titles.join(" > "));
    let last = titles.last().copied().unwrap_or_default().to_owned();
    let has_host = fits(&format!("{whole}  {}", model.host));
    let text = if fits(&whole) { whole } else { last };
    frame.render_widget(Line::styled(text, palette.title()), area);
    if has_host {
        frame.render_widget(Line::from(model.host.as_str()).right_aligned(), area);
    }
}

fn hint(model: &Model) -> String {
    match &model.over {
        None => "Enter choose  q back  / search  ? help".to_owned(),
        Some(Over::Search(typed)) => format!("/{typed}_"),
        Some(Over::Text(..)) => "j k scroll  any other key goes back".to_owned(),
        Some(Over::Ask(..)) => "Enter runs it  Esc goes back".to_owned(),
        Some(Over::Sure(_)) => "y runs it  any other key goes back".to_owned(),
        Some(Over::Stop(_)) => "stop what runs? y/n".to_owned(),
        Some(Over::Job(job)) => match job.end {
            None => "j k scroll  q stop".to_owned(),
            Some(End::Failed(_)) => "j k scroll  t in the terminal  q back".to_owned(),
            Some(_) => "j k scroll  q back".to_owned(),
        },
    }
}

/// From how many columns on there is room for what each line is about.
const WIDE: u16 = 60;

fn list(model: &Model, palette: Palette, frame: &mut Frame<'_>, area: Rect) {
    let Some(level) = model.level() else { return };
    if level.items.is_empty() {
        let text = "There is nothing here: name a configuration with --config, beside -mm.";
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let longest = level.items.iter().map(|item| item.label.chars().count()).max().unwrap_or(0);
    let line = |item: &Item| {
        let mut spans = vec![Span::raw(format!("{:<longest$}  ", item.label))];
        if area.width >= WIDE {
            let room = usize::from(area.width).saturating_sub(longest + 6);
            spans.push(Span::styled(shortened(&item.about, room), palette.aside()));
        }
        ListItem::new(Line::from(spans))
    };
    let list = List::new(level.items.iter().map(line))
        .highlight_symbol("> ")
        .highlight_style(palette.selected())
        .block(Block::bordered());
    let mut state = ListState::default().with_selected(Some(level.selected));
    frame.render_stateful_widget(list, area, &mut state);
}

fn shortened(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// As high as its text, if there is room for that.
fn popup(frame: &mut Frame<'_>, area: Rect, title: &str, text: &str, top: usize) {
    let width = area.width.saturating_sub(4);
    let lines: Vec<String> =
        text.lines().flat_map(|line| broken(line, width.saturating_sub(2))).collect();
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let height = height.min(area.height.saturating_sub(2)).max(3);
    let inside = Rect { x: area.x + 2, y: area.y + 1, width, height }.intersection(frame.area());
    frame.render_widget(Clear, inside);
    let shown: Vec<Line<'_>> = lines.into_iter().skip(top).map(Line::from).collect();
    frame.render_widget(Paragraph::new(shown).block(Block::bordered().title(title)), inside);
}

fn show_job(job: &Job, palette: Palette, frame: &mut Frame<'_>, area: Rect) {
    frame.render_widget(Clear, area);
    let line = format!("$ {}", model::command(&job.arguments));
    let [command, log, state] = Layout::vertical([
        Constraint::Length(rows(&line, area.width)),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    let line = Paragraph::new(line).style(palette.command()).wrap(Wrap { trim: true });
    frame.render_widget(line, command);
    frame.render_widget(Paragraph::new(tail(job, log)), log);
    match (job.end, job.progress()) {
        (Some(End::Well), _) if job.offer().is_some() => {
            let text = "nothing was changed yet: is it to be done? y/n";
            frame.render_widget(Line::styled(text, palette.title()), state);
        }
        (Some(End::Well), _) => {
            frame.render_widget(Line::styled("done", palette.title()), state);
        }
        (Some(End::Failed(code)), _) => {
            let text = format!("ended with {code}: what it said last is above");
            frame.render_widget(Line::styled(text, palette.bad()), state);
        }
        (Some(End::Stopped), _) => {
            frame.render_widget(Line::styled("stopped", palette.bad()), state);
        }
        (None, Some((at, of, name))) => {
            // A step that runs is not done.
            let ratio = (at.saturating_sub(1)) as f64 / of.max(1) as f64;
            let gauge = Gauge::default()
                .ratio(ratio.clamp(0.0, 1.0))
                .label(format!("{at}/{of} {name}"))
                .gauge_style(palette.command());
            frame.render_widget(gauge, state);
        }
        (None, None) => frame.render_widget(Line::from("runs"), state),
    }
}

/// The rows of a log that are shown, the last ones above what is scrolled away.
fn tail(job: &Job, area: Rect) -> Vec<Line<'static>> {
    let height = usize::from(area.height);
    let end = job.log.len().saturating_sub(job.scrolled);
    let lines = job.log.iter().take(end).rev();
    let rows = lines.flat_map(|line| broken(line, area.width).into_iter().rev());
    let mut shown: Vec<Line<'_>> = rows.take(height).map(Line::from).collect();
    shown.reverse();
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend, style::Color};

    use super::*;
    use crate::menu::{
        entries::{Setting, main},
        model::Key,
    };

    fn model() -> Model {
        let setting = Setting { bases: vec!["precomp".to_owned()], ..Setting::default() };
        Model::new(main(&setting), "host: not Gentoo".to_owned())
    }

    fn screen(model: &Model, no_color: Option<&str>, (width, height): (u16, u16)) -> TestBackend {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(model, Palette::new(no_color), frame)).unwrap();
        terminal.backend().clone()
    }

    #[test]
    fn every_size_is_drawn_and_80x24_shows_everything() {
        let mut model = model();
        for size in [(1, 1), (10, 3), (80, 24), (200, 60)] {
            let sure = Over::Sure(vec!["--prune".to_owned()]);
            for over in [None, Some(sure), Some(Over::Search("x".to_owned()))] {
                model.over = over;
                screen(&model, None, size);
            }
        }
        model.over = None;
        let shown = screen(&model, None, (80, 24)).to_string();
        for text in ["host: not Gentoo", "> Build a system", "Terminal", "Quit", "/ search"] {
            assert!(shown.contains(text), "{text}:\n{shown}");
        }
    }

    #[test]
    fn a_job_shows_its_command_its_log_and_how_far_it_is() {
        let mut model = model();
        (0..3).for_each(|_| drop(model.update(Key::Enter)));
        model.printed(b"Updating Portage\n");
        let shown = screen(&model, None, (80, 24)).to_string();
        assert!(
            shown.contains("$ gse --base=precomp") && shown.contains(" Updating Portage"),
            "{shown}"
        );
        model.ended(End::Failed(1));
        assert!(screen(&model, None, (80, 24)).to_string().contains("ended with 1"));
    }

    #[test]
    fn what_a_narrow_screen_cannot_hold_in_one_row_has_several() {
        let mut model = model();
        (0..3).for_each(|_| drop(model.update(Key::Enter)));
        model.printed(b"a sentence of an error that says what to do\n");
        model.ended(End::Well);
        let shown = screen(&model, None, (30, 10)).to_string();
        assert!(shown.contains("\"a sentence of an error that   \""), "{shown}");
        assert!(shown.contains("\"says what to do "), "{shown}");
        for (line, width, expected) in [
            ("", 9, &[""][..]),
            ("one two", 7, &["one two"]),
            ("one two", 6, &["one", "two"]),
            ("/a/long/path x", 8, &["/a/long/", "path x"]),
            ("  indented", 6, &["  inde", "nted"]),
        ] {
            assert_eq!(broken(line, width), expected, "{line}");
        }
    }

    #[test]
    fn without_colours_there_are_none() {
        let coloured = |no_color| {
            let backend = screen(&model(), no_color, (80, 24));
            backend.buffer().content().iter().any(|cell| cell.fg != Color::Reset)
        };
        assert!(coloured(None) && coloured(Some("")) && !coloured(Some("1")));
    }
}
